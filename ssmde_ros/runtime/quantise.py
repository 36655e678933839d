"""Int8 by ONNX Runtime: ranges measured on frames, and layers that suffer most left as they are."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ssmde_ros.errors import SsmdeError
from ssmde_ros.runtime.onnx_export import quiet

_TRIED = 4  # frames on which each layer is tried alone
_SUFFERS = 0.01  # mean change of depth that a layer alone may cost

Frames = Sequence[NDArray[np.uint8]]


def quantised(model: Any, frames: Frames) -> Any:
    """A model whose convolutions compute in int8 (static ranges, one scale per output channel).

    First every layer is tried alone: the stem, the first depthwise convolution and a few of the decoder cost several per
    cent of depth each, most others a few thousandths. Those that do, and the head, whose disparities of far things are
    smaller than a step of eight bits, stay in fp32.

    Args:
        model: `onnx.ModelProto` of `onnx_model`, of the frames' size.
        frames: RGB images `[H, W, 3]`.

    Raises:
        SsmdeError: no frames.
    """
    if not len(frames):
        raise SsmdeError("int8 is calibrated on frames, and there are none")
    layers = [node.name for node in model.graph.node if node.op_type == "Conv"]
    few = spread(frames, _TRIED)
    exact = _depths(model, few)
    kept = {layers[-1]}
    for layer in tqdm(layers[:-1], desc="trying layers in int8", unit="layer", disable=None):
        found = _depths(_with_int8(model, few, set(layers) - {layer}), few)
        if np.mean([np.abs(a / b - 1) for a, b in zip(found, exact, strict=True)]) > _SUFFERS:
            kept.add(layer)
    return _with_int8(model, frames, kept)


def spread(frames: Frames, most: int) -> Frames:
    """At most so many of them, evenly spread."""
    return frames[:: max(1, -(-len(frames) // most))]


def _depths(model: Any, frames: Frames) -> list[NDArray[np.float32]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [session.run(["depth"], {"image": frame[None]})[0][0] for frame in frames]


def _with_int8(model: Any, frames: Frames, kept: Collection[str]) -> Any:
    """The model with all convolutions in int8 but those that are kept, by name."""
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._left: Iterator[NDArray[np.uint8]] = iter(frames)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            frame = next(self._left, None)
            return None if frame is None else {"image": frame[None]}

    with tempfile.TemporaryDirectory() as folder, quiet(""):  # its advice comes by the root logger
        source, target = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, source)
        quantize_static(
            source, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, op_types_to_quantize=["Conv"],
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, nodes_to_exclude=list(kept),
        )  # fmt: skip
        return onnx.load(target)
