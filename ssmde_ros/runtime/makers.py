"""How each engine is made from a network, on which devices it runs, and what of it is kept on disk."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssmde_ros.networks import DepthNetConfig
from ssmde_ros.runtime.engine_cache import engine_path, read_engine, write_engine
from ssmde_ros.runtime.engines import Engine, EngineConfig, EngineName
from ssmde_ros.runtime.exported import reason
from ssmde_ros.runtime.installed import has_onnx_export, has_onnxruntime, has_openvino, has_tensorrt, named_version
from ssmde_ros.runtime.onnx_engine import OnnxEngine
from ssmde_ros.runtime.openvino_engine import CompileConfig, OpenVinoEngine, cache_path, compiled_net, native_bf16

if TYPE_CHECKING:
    from ssmde_ros.networks import DepthNet

    Build = Callable[[], DepthNet]
    """Gives the network that an engine is made from. What the cache has needs none, nor torch, which takes seconds to
    import: the functions below import what needs it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """What an engine is made for.

    Attributes:
        shape: of the network.
        size: (height, width) of the images, pixels.
        device: torch's name of it, resolved.
        digest: identity of the weights, under which what was compiled is kept; empty keeps nothing.
    """

    shape: DepthNetConfig
    size: tuple[int, int]
    device: str
    config: EngineConfig
    digest: str

    @property
    def on_gpu(self) -> bool:
        """Whether it is an NVIDIA GPU."""
        return self.device.startswith("cuda")


@dataclass(frozen=True)
class Maker:
    """One kind of engine.

    Attributes:
        make: the engine of a network, which is built if need be; whatever its library raises comes through.
        installed: whether what it takes to make one is there.
        packages: what to install for that.
        on_gpu: whether it runs on NVIDIA GPUs; None on any device.
        file: where what it compiles is kept; None where nothing is compiled or kept.
        spontaneous: whether "auto" tries it.
    """

    make: Callable[[Build, Target], Engine]
    installed: Callable[[], bool]
    packages: tuple[str, ...]
    on_gpu: bool | None
    file: Callable[[Target], Path | None]
    spontaneous: Callable[[], bool] = lambda: True

    def runs_on(self, target: Target) -> bool:
        """Whether its kind of device is meant."""
        return self.on_gpu in (None, target.on_gpu)


def _torch(build: Build, target: Target) -> Engine:
    from ssmde_ros.runtime.torch_engine import CudaEngine, TorchEngine

    if target.on_gpu:
        return CudaEngine(build(), target.size, target.device, target.config)
    return TorchEngine(build(), target.size, target.config.threads)


def _compiling(target: Target) -> CompileConfig:
    halved = target.config.precision == "auto" and native_bf16()
    return CompileConfig(target.config.threads, "bf16" if halved else "fp32")


def _openvino(build: Build, target: Target) -> Engine:
    config = _compiling(target)
    return OpenVinoEngine(compiled_net(build, target.size, config, target.digest), config.precision)


def _onnx_file(target: Target) -> Path | None:
    return engine_path(target.digest, target.size, "onnx", named_version("torch"), named_version("onnxscript"))


def _onnxruntime(build: Build, target: Target) -> Engine:
    def content() -> bytes:
        from ssmde_ros.runtime.onnx_export import onnx_model

        return bytes(onnx_model(build(), target.size).SerializeToString())

    return _kept(_onnx_file(target), content, lambda content: OnnxEngine(content, target.config.threads, "fp32"))


def _plan_file(target: Target) -> Path | None:
    from ssmde_ros.runtime.tensorrt_engine import built_with

    return engine_path(target.digest, target.size, built_with(target.device), target.config.precision)


def _tensorrt(build: Build, target: Target) -> Engine:
    import torch

    from ssmde_ros.runtime.onnx_export import half, onnx_model
    from ssmde_ros.runtime.tensorrt_engine import TensorRtEngine, build_plan

    halved = target.config.precision == "auto"

    def plan() -> bytes:
        log.info("building the network for TensorRT: a minute or more, this once")
        model: Any = onnx_model(build(), target.size)
        with torch.cuda.device(target.device):  # a plan is built for the current GPU
            return build_plan((half(model) if halved else model).SerializeToString())

    def engine(content: bytes) -> Engine:
        return TensorRtEngine(content, target.size, target.device, "fp16" if halved else "fp32")

    return _kept(_plan_file(target), plan, engine)


def _kept(path: Path | None, compiled: Callable[[], bytes], engine: Callable[[bytes], Engine]) -> Engine:
    """An engine of what the cache has; where it has nothing that runs, compiled and put there."""
    if path is not None and (content := read_engine(path)) is not None:
        try:
            return engine(content)
        except RuntimeError as error:
            log.warning("engine cache %s cannot be used: %s: compiling anew", path, reason(error))
    content = compiled()
    made = engine(content)
    if path is not None:
        write_engine(path, content)
    return made


MAKERS: dict[EngineName, Maker] = {
    "openvino": Maker(
        _openvino, has_openvino, ("openvino",), False,
        lambda target: cache_path(target.size, _compiling(target), target.digest),
    ),
    # For those who ask, or have no OpenVINO, which was the faster wherever both ran.
    "onnxruntime": Maker(
        _onnxruntime, lambda: has_onnxruntime() and has_onnx_export(), ("onnxruntime", "onnx", "onnxscript"), False,
        _onnx_file, lambda: not has_openvino(),
    ),
    "tensorrt": Maker(
        _tensorrt, lambda: has_tensorrt() and has_onnx_export() and has_onnxruntime(),
        # For those who ask: a plan takes minutes to build, in which a node would give no depth.
        ("tensorrt", "onnxruntime", "onnx", "onnxscript"), True, _plan_file, lambda: False,
    ),
    "torch": Maker(_torch, lambda: True, (), None, lambda target: None),
}  # fmt: skip


def versions(names: list[EngineName]) -> list[str]:
    """Of the libraries behind some engines."""
    return [named_version(name) for name in names]
