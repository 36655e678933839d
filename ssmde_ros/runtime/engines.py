"""Inference engines behind one small protocol: torch on CPU or CUDA, OpenVINO on CPU."""

from __future__ import annotations

import copy
import importlib.util
import io
import logging
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import DepthNet
from ssmde_ros.runtime.engine_cache import engine_path, read_engine, write_engine

log = logging.getLogger(__name__)

EngineName = Literal["auto", "openvino", "torch"]


@dataclass(frozen=True)
class EngineConfig:
    """How to run a network.

    Attributes:
        name: "openvino", "torch", or "auto": torch on a GPU, otherwise OpenVINO where it is installed.
        device: "auto", "cpu", "cuda" or "cuda:N".
        threads: CPU threads, 0 for the engine's choice.
    """

    name: EngineName = "auto"
    device: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        if self.name not in get_args(EngineName):
            raise ValueError(f"engine must be one of {', '.join(get_args(EngineName))}, got {self.name!r}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {self.device!r}")
        if self.threads < 0:
            raise ValueError(f"threads must not be negative, got {self.threads}")


class Engine(Protocol):
    """One network compiled for one image size.

    Attributes:
        name, device, precision: what runs where, for people.
    """

    name: str
    device: str
    precision: str

    def infer(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Depth `[h, w]` in metres of an RGB image `[h, w, 3]`; valid until the next call."""
        ...


class LiveNet(nn.Module):
    """What is deployed: bytes in, depth out, batch norm folded, full-resolution head only."""

    def __init__(self, net: DepthNet) -> None:
        super().__init__()
        self.net: DepthNet = fold_batch_norm(copy.deepcopy(net).eval())

    def forward(self, image: Tensor) -> Tensor:
        """Depth `[B, H, W]` in metres from an image `[B, H, W, 3]` uint8."""
        planar = image.permute(0, 3, 1, 2).to(self.net.mean.dtype) / 255
        return self.net.depth(planar)[:, 0]


def fold_batch_norm(module: DepthNet) -> DepthNet:
    """Fold every batch norm that directly follows a convolution in a Sequential into it, in place."""
    for part in module.modules():
        if not isinstance(part, nn.Sequential):
            continue
        for index in range(len(part) - 1):
            conv, norm = part[index], part[index + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                part[index] = nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
                part[index + 1] = nn.Identity()
    return module


class TorchEngine:
    """Eager torch: fp32 on the CPU, half precision on CUDA; channels-last on both."""

    name = "torch"

    def __init__(self, net: DepthNet, size: tuple[int, int], device: str, threads: int) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.device = device
        on_gpu = device.startswith("cuda")
        self.precision = "fp16" if on_gpu else "fp32"
        live = LiveNet(net).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._net = live.half() if on_gpu else live
        self._output = np.empty(size, np.float32)

    @torch.inference_mode()
    def infer(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Engine.infer`."""
        depth = self._net(torch.from_numpy(image)[None].to(self.device, non_blocking=True))
        torch.from_numpy(self._output).copy_(depth[0])
        return self._output


class OpenVinoEngine:
    """OpenVINO on the CPU, compiled for latency; read from the cache of engines where the weights have a digest."""

    name = "openvino"
    device = "cpu"
    precision = "fp32"

    def __init__(self, net: DepthNet, size: tuple[int, int], threads: int, digest: str = "") -> None:
        self._request = _compiled(net, size, threads, digest).create_infer_request()

    def infer(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Engine.infer`."""
        self._request.infer([image[None]], share_inputs=True, share_outputs=True)
        depth: NDArray[np.float32] = self._request.get_output_tensor(0).data[0]
        return depth


def is_compiled(size: tuple[int, int], config: EngineConfig, digest: str) -> bool:
    """Whether the cache has the engine for these weights, or none is needed.

    Raises:
        SsmdeError: see `resolve_device`.
    """
    name, _ = resolve_engine(config)
    if name != "openvino" or not _has_openvino():
        return True
    path = _cache_path(size, config.threads, digest)
    return path is None or path.is_file()


def _settings(threads: int) -> dict[str, str | int]:
    # fp32 even where the processor would prefer bf16: depth must not depend on the machine it runs on.
    settings: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    return settings | {"INFERENCE_NUM_THREADS": threads} if threads else settings


def _cache_path(size: tuple[int, int], threads: int, digest: str) -> Path | None:
    import openvino as ov

    processor = _openvino_core().get_property("CPU", "FULL_DEVICE_NAME"), os.cpu_count()
    return engine_path(digest, size, ov.__version__, torch.__version__, *processor, _settings(threads))


def _compiled(net: DepthNet, size: tuple[int, int], threads: int, digest: str) -> Any:
    """The `openvino.CompiledModel` of a network for one image size."""
    import openvino as ov

    core, settings = _openvino_core(), _settings(threads)
    path = _cache_path(size, threads, digest)
    if path is not None and (engine := read_engine(path)) is not None:
        try:
            return core.import_model(io.BytesIO(engine), "CPU", settings)
        except RuntimeError as error:
            log.warning("engine cache %s cannot be used: %s: compiling anew", path, str(error).splitlines()[-1])
    example = torch.zeros(1, *size, 3, dtype=torch.uint8)
    model = ov.convert_model(LiveNet(net), example_input=example, input=[(list(example.shape), ov.Type.u8)])
    compiled = core.compile_model(model, "CPU", settings)
    if path is not None:
        try:
            write_engine(path, compiled.export_model().getvalue())
        except RuntimeError as error:
            log.warning("compiled engine not kept: %s: the next start compiles again", str(error).splitlines()[-1])
    return compiled


@cache
def _openvino_core() -> Any:
    import openvino as ov

    return ov.Core()


def resolve_device(device: str) -> str:
    """The torch device to use; without any GPU the CPU, with a warning.

    Raises:
        SsmdeError: there are GPUs, but not the one asked for.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        log.warning("device %s asked for, but torch sees no GPU: running on the CPU", device)
        return "cpu"
    if device.startswith("cuda:") and int(device[5:]) >= torch.cuda.device_count():
        raise SsmdeError(f"device {device} asked for, but torch sees {torch.cuda.device_count()} GPUs, numbered from 0")
    return device


def resolve_engine(config: EngineConfig) -> tuple[EngineName, str]:
    """Name and torch device of the engine that a configuration asks for.

    Raises:
        SsmdeError: see `resolve_device`.
    """
    device = resolve_device(config.device)
    if config.name != "auto":
        return config.name, device
    return ("openvino" if device == "cpu" and _has_openvino() else "torch"), device


def _has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None


def create_engine(net: DepthNet, size: tuple[int, int], config: EngineConfig, digest: str = "") -> Engine:
    """Compile a network for images of `size` (height, width; multiples of 32) and warm it up.

    Args:
        digest: identity of the weights, under which the compiled engine is kept on disk; empty keeps nothing.

    Raises:
        SsmdeError: the engine asked for is not installed, or cannot run on that device.
    """
    name, device = resolve_engine(config)
    engine: Engine
    if name == "openvino":
        if not _has_openvino():
            raise SsmdeError("engine 'openvino' is not installed: pip install openvino, or set engine:=torch")
        if device != "cpu":
            raise SsmdeError(f"engine 'openvino' runs on the CPU only, not on {device}: set engine:=torch")
        engine = OpenVinoEngine(net, size, config.threads, digest)
    else:
        engine = TorchEngine(net, size, device, config.threads)
    for _ in range(2):
        engine.infer(np.zeros((*size, 3), np.uint8))
    return engine
