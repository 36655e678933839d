"""What an inference engine is, and how one is asked for. `create.py` makes them."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import re
import sys
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from ssmde_ros.errors import SsmdeError

log = logging.getLogger(__name__)

EngineName = Literal["auto", "openvino", "onnxruntime", "torch", "tensorrt"]
EnginePrecision = Literal["auto", "fp32"]


@dataclass(frozen=True)
class EngineConfig:
    """How to run a network.

    Attributes:
        name: one of the engines, or "auto": the fastest of those that are quickly made, measured here.
        device: "auto", "cpu", "cuda" or "cuda:N".
        threads: CPU threads, 0 for the engine's choice.
        precision: "auto": sixteen bits where the hardware multiplies them itself (OpenVINO on processors with bfloat16,
            torch and TensorRT on GPUs), or "fp32" everywhere. An exported file has its own.
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


def resolve_device(device: str) -> str:
    """The torch device to use; without any GPU the CPU, with a warning.

    Raises:
        SsmdeError: there are GPUs, but not the one asked for.
    """
    if device == "cpu" or (device == "auto" and not _has_driver()):
        return "cpu"
    import torch  # seconds, which machines without a GPU do without

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not torch.cuda.is_available():
        log.warning("device %s asked for, but torch sees no GPU: running on the CPU", device)
        return "cpu"
    if device.startswith("cuda:") and int(device[5:]) >= torch.cuda.device_count():
        raise SsmdeError(f"device {device} asked for, but torch sees {torch.cuda.device_count()} GPUs, numbered from 0")
    return device


def _has_driver() -> bool:
    """Whether a library is there without which torch finds no GPU: that of CUDA, or of ROCm, which torch calls cuda, too."""
    for name in ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libamdhip64.so"):
        with contextlib.suppress(OSError):
            ctypes.CDLL(name)
            return True
    return False


def warm_up(engine: Engine, size: tuple[int, int]) -> None:
    """The first calls allocate, and choose kernels.

    Args:
        size: (height, width) of its images, pixels.
    """
    for _ in range(2):
        engine.infer(np.zeros((*size, 3), np.uint8))
