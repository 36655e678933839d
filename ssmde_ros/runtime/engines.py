"""Inference engines behind one small protocol: torch on CPU or CUDA, OpenVINO on CPU."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import DepthNet
from ssmde_ros.runtime.live_net import LiveNet
from ssmde_ros.runtime.openvino_engine import (
    CompileConfig,
    OpenVinoEngine,
    cache_path,
    compiled_net,
    has_openvino,
    native_bf16,
)

log = logging.getLogger(__name__)

EngineName = Literal["auto", "openvino", "onnxruntime", "torch", "tensorrt"]
EnginePrecision = Literal["auto", "fp32"]


@dataclass(frozen=True)
class EngineConfig:
    """How to run a network.

    Attributes:
        name: "openvino", "torch", or "auto": torch on a GPU, otherwise OpenVINO where it is installed. "onnxruntime" and
            "tensorrt" run files that were exported for them.
        device: "auto", "cpu", "cuda" or "cuda:N".
        threads: CPU threads, 0 for the engine's choice.
        precision: "auto": sixteen bits where the hardware multiplies them itself (OpenVINO on processors with bfloat16,
            torch on GPUs), or "fp32" everywhere. An exported file has its own.
    """

    name: EngineName = "auto"
    device: str = "auto"
    threads: int = 0
    precision: EnginePrecision = "auto"

    def __post_init__(self) -> None:
        if self.name not in get_args(EngineName):
            raise ValueError(f"engine must be one of {', '.join(get_args(EngineName))}, got {self.name!r}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {self.device!r}")
        if self.precision not in get_args(EnginePrecision):
            raise ValueError(f"precision must be one of {', '.join(get_args(EnginePrecision))}, got {self.precision!r}")
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


class TorchEngine:
    """Eager torch: fp32 on the CPU, by default half precision on CUDA; channels-last on both."""

    name = "torch"

    def __init__(self, net: DepthNet, size: tuple[int, int], device: str, config: EngineConfig) -> None:
        if config.threads:
            torch.set_num_threads(config.threads)
        self.device = device
        halved = device.startswith("cuda") and config.precision == "auto"
        self.precision = "fp16" if halved else "fp32"
        live = LiveNet(net).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._net = live.half() if halved else live
        self._output = np.empty(size, np.float32)

    @torch.inference_mode()
    def infer(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Engine.infer`."""
        depth = self._net(torch.from_numpy(image)[None].to(self.device, non_blocking=True))
        torch.from_numpy(self._output).copy_(depth[0])
        return self._output


def is_compiled(size: tuple[int, int], config: EngineConfig, digest: str) -> bool:
    """Whether the cache has the engine for these weights, or none is needed.

    Raises:
        SsmdeError: see `resolve_device`.
    """
    name, _ = resolve_engine(config)
    if name != "openvino" or not has_openvino():
        return True
    path = cache_path(size, compile_config(config), digest)
    return path is None or path.is_file()


def compile_config(config: EngineConfig) -> CompileConfig:
    """What OpenVINO compiles a network of ours for."""
    return CompileConfig(config.threads, "bf16" if config.precision == "auto" and native_bf16() else "fp32")


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
    return ("openvino" if device == "cpu" and has_openvino() else "torch"), device


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
        if not has_openvino():
            raise SsmdeError("engine 'openvino' is not installed: pip install openvino, or set engine:=torch")
        if device != "cpu":
            raise SsmdeError(f"engine 'openvino' runs on the CPU only, not on {device}: set engine:=torch")
        compiling = compile_config(config)
        engine = OpenVinoEngine(compiled_net(net, size, compiling, digest), compiling.precision)
    elif name == "torch":
        engine = TorchEngine(net, size, device, config)
    else:
        form = "onnx" if name == "onnxruntime" else name
        raise SsmdeError(
            f"engine {name!r} runs exported files: `ssmde export --format {form}` writes one of the weights"
        )
    warm_up(engine, size)
    return engine


def warm_up(engine: Engine, size: tuple[int, int]) -> None:
    """The first calls allocate, and choose kernels.

    Args:
        size: (height, width) of its images, pixels.
    """
    for _ in range(2):
        engine.infer(np.zeros((*size, 3), np.uint8))
