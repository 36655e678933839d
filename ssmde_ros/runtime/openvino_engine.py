"""OpenVINO on the CPU: our networks, and files that were exported."""

from __future__ import annotations

import importlib
import io
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ssmde_ros.runtime.engine_cache import engine_path, read_engine, write_engine
from ssmde_ros.runtime.exported import reason
from ssmde_ros.runtime.installed import named_version

if TYPE_CHECKING:
    from ssmde_ros.networks import DepthNet

log = logging.getLogger(__name__)


class OpenVinoEngine:
    """A model compiled for latency.

    Args:
        compiled: `openvino.CompiledModel` of one image size.
        precision: of its weights, for people.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, compiled: Any, precision: str = "fp32") -> None:
        self._request, self.precision = compiled.create_infer_request(), precision

    def infer(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Engine.infer`."""
        self._request.infer([image[None]], share_inputs=True, share_outputs=True)
        depth: NDArray[np.float32] = self._request.get_output_tensor(0).data[0]
        return depth


@cache
def openvino() -> Any:
    """The library, which must not be imported in any other way."""
    # Its converter asks the user's home directory whether it may report home: not every user has one, and robots do not report.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def native_bf16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (AVX512-BF16, AMX): it is asked, not assumed."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@dataclass(frozen=True)
class CompileConfig:
    """What a network is compiled for.

    Attributes:
        threads: 0 for OpenVINO's choice.
        precision: of the arithmetic.
    """

    threads: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"

    def properties(self) -> dict[str, str | int | bool]:
        """In OpenVINO's words."""
        # Always said: left alone, OpenVINO takes bf16 where the processor has it, and the engine would not know.
        hint = {"fp32": "f32", "bf16": "bf16"}[self.precision]
        settings: dict[str, str | int | bool] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": hint}
        # Nor may it pin its threads to cores: every process begins with the first one, so that the nodes of two cameras, a
        # thread each, shared a core and left the other idle.
        settings["ENABLE_CPU_PINNING"] = False
        return settings | {"INFERENCE_NUM_THREADS": self.threads} if self.threads else settings


def cache_path(size: tuple[int, int], config: CompileConfig, digest: str) -> Path | None:
    """Where the compiled engine of some weights is kept; None where none can be.

    Args:
        size: (height, width), pixels.
        digest: identity of the weights.
    """
    ov = openvino()

    processor = _core().get_property("CPU", "FULL_DEVICE_NAME"), os.cpu_count()
    return engine_path(digest, size, ov.__version__, named_version("torch"), *processor, config.properties())


def compiled_net(build: Callable[[], DepthNet], size: tuple[int, int], config: CompileConfig, digest: str = "") -> Any:
    """The `openvino.CompiledModel` of a network for one image size, from the cache where it has a digest.

    Args:
        build: the network; not called where the cache has what it would be compiled to.
        size: (height, width), pixels, multiples of 32.
    """
    settings = config.properties()
    path = cache_path(size, config, digest)
    if path is not None and (engine := read_engine(path)) is not None:
        try:
            return _core().import_model(io.BytesIO(engine), "CPU", settings)
        except RuntimeError as error:
            log.warning("engine cache %s cannot be used: %s: compiling anew", path, reason(error))
    compiled = _core().compile_model(converted(build(), size), "CPU", settings)
    if path is not None:
        try:
            write_engine(path, compiled.export_model().getvalue())
        except RuntimeError as error:
            log.warning("compiled engine not kept: %s: the next start compiles again", reason(error))
    return compiled


def converted(net: DepthNet, size: tuple[int, int] | None) -> Any:
    """The `openvino.Model` of a network: `image` `[1, H, W, 3]` uint8 to `depth` `[1, H, W]` float32, metres.

    Args:
        size: (height, width), pixels; None leaves both open.
    """
    import torch

    from ssmde_ros.runtime.live_net import LiveNet

    ov = openvino()
    example = torch.zeros(1, *(size or (96, 128)), 3, dtype=torch.uint8)
    shape = [1, *(size or (-1, -1)), 3]
    model = ov.convert_model(LiveNet(net), example_input=example, input=[(shape, ov.Type.u8)])
    model.inputs[0].get_tensor().set_names({"image"})
    model.outputs[0].get_tensor().set_names({"depth"})
    return model


def compiled_file(content: bytes, weights: bytes, size: tuple[int, int], config: CompileConfig) -> Any:
    """The `openvino.CompiledModel` of what is in an `.xml` and `.bin`, or in an `.onnx` file, for one image size.

    Args:
        weights: empty for ONNX.
        size: (height, width), pixels.

    Raises:
        RuntimeError: OpenVINO cannot read it.
    """
    model = _core().read_model(content, weights) if weights else _core().read_model(io.BytesIO(content))
    if model.inputs[0].partial_shape.is_dynamic:
        model.reshape([1, *size, 3])
    return _core().compile_model(model, "CPU", config.properties())


@cache
def _core() -> Any:
    return openvino().Core()
