"""Which libraries that engines need are installed; nothing is imported to know."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec


def has_openvino() -> bool:
    """OpenVINO, for processors."""
    return find_spec("openvino") is not None


def has_onnxruntime() -> bool:
    """ONNX Runtime, for ONNX files."""
    return find_spec("onnxruntime") is not None


def has_onnx_export() -> bool:
    """What turns a network into an ONNX model."""
    return all(find_spec(name) is not None for name in ("onnx", "onnxscript"))


def has_tensorrt() -> bool:
    """TensorRT, for NVIDIA GPUs."""
    return find_spec("tensorrt") is not None


@cache
def named_version(package: str) -> str:
    """Name and version of a package; the name alone where it is not installed."""
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package
