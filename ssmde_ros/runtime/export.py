"""Writes the network for other runtimes: ONNX, OpenVINO, TorchScript, TensorRT.

All take `image` `[1, H, W, 3]` uint8 RGB and give `depth` `[1, H, W]` float32 metres: nothing is left to be done outside.
"""

from __future__ import annotations

import importlib.util
import io
import tempfile
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from ssmde_ros.errors import SsmdeError
from ssmde_ros.files import whole_file
from ssmde_ros.networks import DepthNet, WeightsInfo
from ssmde_ros.runtime.engines import Engine
from ssmde_ros.runtime.exported import KEY, SUFFIXES, Exported, Form, Precision, plan_header, to_text
from ssmde_ros.runtime.live_net import LiveNet
from ssmde_ros.runtime.onnx_export import half, onnx_model, with_metadata
from ssmde_ros.runtime.openvino_engine import converted, openvino
from ssmde_ros.runtime.quantise import Frames, quantised
from ssmde_ros.runtime.tensorrt_engine import build_plan, built_with

_NEEDS = {
    "onnx": ("onnx", "onnxscript"),
    "openvino": ("openvino",),
    "torchscript": (),
    "tensorrt": ("tensorrt", "onnx", "onnxscript"),
}


@dataclass(frozen=True)
class ExportConfig:
    """What to write.

    Attributes:
        form: of the file.
        precision: of weights and arithmetic; int8 is calibrated on frames.
        size: (height, width) of the images, pixels, multiples of 32; None leaves it open.

    Raises:
        ValueError: a combination that does not exist.
    """

    form: Form
    precision: Precision = "fp32"
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.form not in get_args(Form) or self.precision not in get_args(Precision):
            raise ValueError(f"unknown format or precision: {self.form!r}, {self.precision!r}")
        if self.size is not None and any(side < 32 or side % 32 for side in self.size):
            raise ValueError(f"size must be two multiples of 32, got {self.size[1]}x{self.size[0]}")
        if self.precision == "int8" and self.form not in ("onnx", "openvino"):
            raise ValueError(f"int8 is written as onnx or openvino, not as {self.form}")
        if self.form == "tensorrt" and self.size is None:
            raise ValueError("tensorrt is built for one size")

    @property
    def suffix(self) -> str:
        """Ending of the file's name."""
        return next(suffix for suffix, form in SUFFIXES.items() if form == self.form)

    def require(self) -> None:
        """Raise SsmdeError where this machine lacks what it takes."""
        needed = list(_NEEDS[self.form])
        if self.precision == "int8" or (self.form in ("onnx", "tensorrt") and self.precision == "fp16"):
            needed += ["onnx", "onnxscript", "onnxruntime"]
        missing = [name for name in dict.fromkeys(needed) if importlib.util.find_spec(name) is None]
        if missing:
            raise SsmdeError(f"{self.form} in {self.precision} needs a package: pip install {' '.join(missing)}")
        if self.form == "tensorrt" and not torch.cuda.is_available():
            raise SsmdeError(
                "a TensorRT plan is built on the machine with the GPU that will run it; there is none here"
            )

    def check_name(self, path: Path) -> None:
        """Raise ValueError unless a name has the ending of the format."""
        if path.suffix != self.suffix:
            raise ValueError(f"{path.name}: {self.form} files end in {self.suffix}")


def export(net: DepthNet, info: WeightsInfo, config: ExportConfig, path: Path, frames: Frames = ()) -> Exported:
    """Write a network, whole or not at all.

    Args:
        info: of the weights that the network has.
        frames: RGB images `[H, W, 3]` of the size that is written, for the calibration of int8.

    Raises:
        SsmdeError: a library is not installed, there are no frames for int8, or TensorRT refuses.
        OSError: the disk refuses.
        ValueError: the name has another ending than the format.
    """
    config.check_name(path)
    config.require()
    made = Exported(replace(info, path=path), config.form, config.precision, config.size, _made_with(config.form))
    path.parent.mkdir(parents=True, exist_ok=True)
    _WRITERS[config.form](net, config, made, frames)
    return made


def relative_difference(net: DepthNet, engine: Engine, frames: Frames) -> tuple[float, float]:
    """How far an engine's depth lies from torch's: the largest of any pixel, and the mean, of 1.

    Args:
        frames: RGB images `[H, W, 3]` of the engine's size.
    """
    live, found = LiveNet(net), []
    for frame in frames:
        with torch.inference_mode():
            exact = live(torch.from_numpy(frame)[None])[0].numpy()
        found.append(np.abs(engine.infer(frame) / exact - 1))
    return float(np.max(found)), float(np.mean(found))


def _made_with(form: Form) -> str:
    if form == "tensorrt":
        return built_with()
    if form == "openvino":
        return f"openvino {openvino().__version__}"
    return f"torch {torch.__version__}"


def _onnx(net: DepthNet, config: ExportConfig, frames: Frames) -> Any:
    model = onnx_model(net, config.size)
    if config.precision == "fp16":
        return half(model)
    return quantised(model, frames) if config.precision == "int8" else model


def _write_onnx(net: DepthNet, config: ExportConfig, made: Exported, frames: Frames) -> None:
    _write(made.info.path, with_metadata(_onnx(net, config, frames), to_text(made)))


def _write_openvino(net: DepthNet, config: ExportConfig, made: Exported, frames: Frames) -> None:
    ov = openvino()
    if config.precision == "int8":
        model = ov.convert_model(io.BytesIO(_onnx(net, config, frames).SerializeToString()))
    else:
        model = converted(net, config.size)
    path = made.info.path
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as folder:
        written = Path(folder, path.name)
        ov.save_model(model, written, compress_to_fp16=config.precision == "fp16")
        # The second time it knows what its weights look like.
        model.set_rt_info(to_text(replace(made, weights=written.with_suffix(".bin").read_bytes())), KEY)
        ov.save_model(model, written, compress_to_fp16=config.precision == "fp16")
        _write(path.with_suffix(".bin"), written.with_suffix(".bin").read_bytes())
        _write(path, written.read_bytes())  # the one that is opened comes last


def _write_torchscript(net: DepthNet, config: ExportConfig, made: Exported, frames: Frames) -> None:
    live = LiveNet(net)
    live = live.half() if config.precision == "fp16" else live
    example = torch.zeros(1, *(config.size or (96, 128)), 3, dtype=torch.uint8)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # torch would rather have us use torch.export, which needs Python where it runs
        torch.jit.save(torch.jit.trace(live, example), buffer, _extra_files={KEY: to_text(made)})
    _write(made.info.path, buffer.getvalue())


def _write_tensorrt(net: DepthNet, config: ExportConfig, made: Exported, frames: Frames) -> None:
    _write(made.info.path, plan_header(to_text(made)) + build_plan(_onnx(net, config, frames).SerializeToString()))


def _write(path: Path, content: bytes) -> None:
    with whole_file(path) as file:
        file.write(content)


_WRITERS = {
    "onnx": _write_onnx, "openvino": _write_openvino, "torchscript": _write_torchscript, "tensorrt": _write_tensorrt,
}  # fmt: skip
