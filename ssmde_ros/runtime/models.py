"""Whatever gives depth: a weights file of ours, or a file that was exported from one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import WeightsInfo, check_depth_net
from ssmde_ros.networks.identity import read_depth_net, remember_fit
from ssmde_ros.runtime.create import create_engine_from
from ssmde_ros.runtime.engines import Engine, EngineConfig, EngineName, resolve_device, warm_up
from ssmde_ros.runtime.exported import Exported, Form, is_exported, read_exported, reason
from ssmde_ros.runtime.installed import has_onnxruntime, has_openvino, has_tensorrt
from ssmde_ros.runtime.onnx_engine import OnnxEngine
from ssmde_ros.runtime.openvino_engine import CompileConfig, OpenVinoEngine, compiled_file

if TYPE_CHECKING:
    from ssmde_ros.networks import DepthNet


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
            WeightsError: the network takes other weights.
            SsmdeError: the engine asked for is not installed, or cannot run this.
        """
        ...


def open_model(path: Path) -> DepthModel:
    """The model in a file, by the ending of its name.

    Raises:
        WeightsError: the file cannot be read, or is not what it should be. Whether the network takes what is in it shows
            when an engine is made.
    """
    return ExportedModel(read_exported(path)) if is_exported(path) else TrainedModel(path)


def check_model(path: Path, config: EngineConfig | None = None) -> WeightsInfo:
    """Identity of a model that `open_model` would open, without the time it takes to build one.

    Args:
        config: whose engine has to be able to run it; None asks only for a whole file.

    Raises:
        WeightsError: the file cannot be used.
        SsmdeError: the engine does not run such files.
    """
    if not is_exported(path):
        return check_depth_net(path)
    exported = read_exported(path)
    if config is not None:
        runner(exported, config)
    return exported.info


class TrainedModel:
    """A weights file; see `DepthModel`."""

    size: tuple[int, int] | None = None

    def __init__(self, path: Path) -> None:
        self.identity, self._arrays = read_depth_net(path)

    def engine(self, size: tuple[int, int], config: EngineConfig) -> Engine:
        """See `DepthModel.engine`."""
        engine = create_engine_from(self._net, self.identity.config, size, config, self.identity.digest)
        remember_fit(self.identity, self._arrays)  # it runs, or was compiled from the same
        return engine

    def _net(self) -> DepthNet:
        from ssmde_ros.networks.weights import build_depth_net

        return build_depth_net(self.identity, self._arrays)


class ExportedModel:
    """A file of `ssmde export`; see `DepthModel`."""

    def __init__(self, exported: Exported) -> None:
        self._exported, self.identity = exported, exported.info
        self.size = (exported.size[1], exported.size[0]) if exported.size is not None else None

    def engine(self, size: tuple[int, int], config: EngineConfig) -> Engine:
        """See `DepthModel.engine`."""
        path, form = self.identity.path, self._exported.form
        name = runner(self._exported, config)
        try:
            engine = self._made(name, size, config)
            warm_up(engine, size)
        except (RuntimeError, ValueError) as error:
            raise SsmdeError(f"{name} cannot run {path} ({reason(error)}); is it a whole {form} file?") from error
        return engine

    def _made(self, name: EngineName, size: tuple[int, int], config: EngineConfig) -> Engine:
        file, threads = self._exported, config.threads
        if name == "openvino":
            # In fp32, whatever the processor would prefer: the file says what is rounded and what is not.
            compiled = compiled_file(file.content, file.weights, size, CompileConfig(threads))
            return OpenVinoEngine(compiled, file.precision)
        if name == "onnxruntime":
            return OnnxEngine(file.content, threads, file.precision)
        # These two import torch.
        from ssmde_ros.runtime.tensorrt_engine import TensorRtEngine, built_with
        from ssmde_ros.runtime.torchscript_engine import TorchScriptEngine

        device = resolve_device(config.device)
        if name == "torch":
            return TorchScriptEngine(file.content, device, threads, file.precision)
        if not device.startswith("cuda"):
            raise SsmdeError(f"{file.info.path} needs an NVIDIA GPU: set device:=auto where there is one")
        if file.made_with != built_with(device):
            made = f"was built with {file.made_with}, here is {built_with(device)}"
            raise SsmdeError(f"{file.info.path} {made}: export it again here")
        return TensorRtEngine(file.content, size, device, file.precision)


def runner(exported: Exported, config: EngineConfig) -> EngineName:
    """The engine that runs an exported file.

    Raises:
        SsmdeError: the one asked for does not run such files or not on that device, or none is installed.
    """
    able: dict[Form, dict[EngineName, bool]] = {
        "onnx": {"openvino": has_openvino(), "onnxruntime": has_onnxruntime()},
        "openvino": {"openvino": has_openvino()},
        "torchscript": {"torch": True},
        "tensorrt": {"tensorrt": has_tensorrt()},
    }
    runners, path = able[exported.form], exported.info.path
    if config.name != "auto" and config.name not in runners:
        raise SsmdeError(f"engine {config.name!r} does not run {path.suffix} files such as {path}; engine auto does")
    chosen = [name for name in runners if config.name in ("auto", name)]
    installed = [name for name in chosen if runners[name]]
    if not installed:
        raise SsmdeError(f"{path} needs an engine that is not installed: pip install {' or '.join(chosen)}")
    if config.device.startswith("cuda") and installed[0] in ("openvino", "onnxruntime"):
        raise SsmdeError(f"{installed[0]} runs {path} on the CPU only, not on {config.device}: set device:=auto")
    return installed[0]
