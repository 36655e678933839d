"""The network as an ONNX model, in fp32 and fp16."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ssmde_ros.networks import DepthNet
from ssmde_ros.runtime.exported import KEY
from ssmde_ros.runtime.live_net import LiveNet

_OPSET = 18


def onnx_model(net: DepthNet, size: tuple[int, int] | None) -> Any:
    """The `onnx.ModelProto` of a network: `image` `[1, H, W, 3]` uint8 to `depth` `[1, H, W]` float32, metres.

    Args:
        size: (height, width), pixels; None takes any multiples of 32.
    """
    height, width = size or (96, 128)
    example = torch.zeros(1, height, width, 3, dtype=torch.uint8)
    open_sides = {1: 32 * torch.export.Dim("rows", min=1, max=128), 2: 32 * torch.export.Dim("columns", min=1, max=128)}
    with warnings.catch_warnings(), quiet("torch.onnx"):
        warnings.simplefilter("ignore")  # about the exporter's own future
        program = torch.onnx.export(
            LiveNet(net), (example,), dynamo=True, opset_version=_OPSET, verbose=False, input_names=["image"],
            output_names=["depth"], dynamic_shapes=None if size else {"image": open_sides},
        )  # fmt: skip
    assert program is not None
    return program.model_proto


def half(model: Any) -> Any:
    """The same with fp16 weights and arithmetic; input and output keep their types."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(model, keep_io_types=True)


@contextmanager
def quiet(name: str) -> Iterator[None]:
    """Of a library that talks to itself, errors only; the name of its logger."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def with_metadata(model: Any, text: str) -> bytes:
    """The model as bytes, with our metadata in it."""
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, text
    return bytes(model.SerializeToString())
