"""Whatever gives depth: a weights file of ours, or a file that was exported from one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import WeightsInfo, check_depth_net, load_depth_net
from ssmde_ros.runtime.engines import Engine, EngineConfig, EngineName, create_engine, resolve_device
from ssmde_ros.runtime.exported import Exported, Form, is_exported, read_exported, split_plan
from ssmde_ros.runtime.onnx_engine import OnnxEngine, has_onnxruntime
from ssmde_ros.runtime.openvino_engine import OpenVinoEngine, compiled_file, has_openvino
from ssmde_ros.runtime.tensorrt_engine import TensorRtEngine, built_with, has_tensorrt


class DepthModel(Protocol):
    """Something that engines are made from.

    Attributes:
        identity: which weights it has.
        size: the only (width, height) it takes; None takes any multiple of 32.
    """

    identity: WeightsInfo
    size: tuple[int, int] | None

    def engine(self, size: tuple[int, int], config: EngineConfig) -> Engine:
        """An engine for images of `size` (height, width), warmed up.

        Raises:
            SsmdeError: the engine asked for is not installed, or cannot run this.
        """
        ...


def open_model(path: Path) -> DepthModel:
    """The model in a file, by the ending of its name.

    Raises:
        WeightsError: the file cannot be used.
    """
    return ExportedModel(read_exported(path)) if is_exported(path) else TrainedModel(path)


def check_model(path: Path) -> WeightsInfo:
    """Identity of a model that `open_model` would open, without the time it takes to build one.

    Raises:
        WeightsError: the file cannot be used.
    """
    return read_exported(path).info if is_exported(path) else check_depth_net(path)


class TrainedModel:
    """A weights file; see `DepthModel`."""

    size: tuple[int, int] | None = None

    def __init__(self, path: Path) -> None:
        self._net, self.identity = load_depth_net(path)

    def engine(self, size: tuple[int, int], config: EngineConfig) -> Engine:
        """See `DepthModel.engine`."""
        return create_engine(self._net, size, config, self.identity.digest)


class ExportedModel:
    """A file of `ssmde export`; see `DepthModel`."""

    def __init__(self, exported: Exported) -> None:
        self._exported, self.identity = exported, exported.info
        self.size = (exported.size[1], exported.size[0]) if exported.size is not None else None

    def engine(self, size: tuple[int, int], config: EngineConfig) -> Engine:
        """See `DepthModel.engine`."""
        exported = self._exported
        path, form = exported.info.path, exported.form
        name = _runner(exported, config.name)
        device = resolve_device(config.device) if name in ("torch", "tensorrt") else "cpu"
        try:
            engine: Engine
            if name == "openvino":
                engine = OpenVinoEngine(compiled_file(path, size, config.threads), exported.precision)
            elif name == "onnxruntime":
                engine = OnnxEngine(path, config.threads, exported.precision)
            elif name == "tensorrt":
                _require_same_gpu(exported, device)
                engine = TensorRtEngine(split_plan(path.read_bytes())[1], size, device, exported.precision)
            else:
                engine = TorchScriptEngine(path, device, config.threads, exported.precision)
            for _ in range(2):
                engine.infer(np.zeros((*size, 3), np.uint8))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise SsmdeError(f"{name} cannot run {path} ({reason}); is it a whole {form} file?") from error
        return engine


def _runner(exported: Exported, wanted: EngineName) -> EngineName:
    """The engine that runs an exported file.

    Raises:
        SsmdeError: the one asked for does not run such files, or none is installed.
    """
    able: dict[Form, dict[EngineName, bool]] = {
        "onnx": {"openvino": has_openvino(), "onnxruntime": has_onnxruntime()},
        "openvino": {"openvino": has_openvino()},
        "torchscript": {"torch": True},
        "tensorrt": {"tensorrt": has_tensorrt()},
    }
    runners = able[exported.form]
    path = exported.info.path
    if wanted != "auto" and wanted not in runners:
        raise SsmdeError(f"engine {wanted!r} does not run {path.suffix} files such as {path}: set engine:=auto")
    chosen = [name for name in runners if wanted in ("auto", name)]
    installed = [name for name in chosen if runners[name]]
    if not installed:
        raise SsmdeError(f"{path} needs an engine that is not installed: pip install {' or '.join(chosen)}")
    return installed[0]


def _require_same_gpu(exported: Exported, device: str) -> None:
    if not device.startswith("cuda"):
        raise SsmdeError(f"{exported.info.path} needs an NVIDIA GPU, and torch sees none")
    if exported.made_with != built_with(device):
        raise SsmdeError(
            f"{exported.info.path} was built with {exported.made_with}, here is {built_with(device)}: export it again here"
        )


class TorchScriptEngine:
    """A `.ts` file that `ssmde export` wrote."""

    name = "torch"

    def __init__(self, path: Path, device: str, threads: int, precision: str) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.device, self.precision = device, precision
        self._live: Any = torch.jit.load(path, map_location=device).eval()

    @torch.inference_mode()
    def infer(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Engine.infer`."""
        depth: NDArray[np.float32] = self._live(torch.from_numpy(image)[None].to(self.device))[0].cpu().numpy()
        return depth
