"""TensorRT on an NVIDIA GPU: builds engines from ONNX, and runs them on torch's memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ssmde_ros.errors import SsmdeError


def built_with(device: str = "cuda") -> str:
    """Version of TensorRT and name of the GPU: a plan is good for these alone."""
    import tensorrt as trt

    return f"tensorrt {trt.__version__} for {torch.cuda.get_device_name(device)}"


def build_plan(onnx: bytes) -> bytes:
    """A TensorRT engine for the GPU in this machine; takes a minute or more.

    Args:
        onnx: a model of fixed size; it is run in the types that it states.

    Raises:
        SsmdeError: TensorRT does not know an operator, or finds no way to run the network.
    """
    import tensorrt as trt

    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(onnx):
        raise SsmdeError(f"TensorRT cannot read the network: {parser.get_error(0).desc()}")
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)  # what says fp32 is fp32
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise SsmdeError("TensorRT found no way to run the network on this GPU; its messages are above")
    return bytes(plan)


class TensorRtEngine:
    """A plan with its buffers; images are copied to the GPU and depth back.

    Args:
        plan: of `build_plan`, on the same GPU with the same version.
        size: (height, width), pixels.
        precision: for people.

    Raises:
        RuntimeError: a plan of another version or GPU, or for another size.
    """

    name = "tensorrt"

    def __init__(self, plan: bytes, size: tuple[int, int], device: str, precision: str) -> None:
        import tensorrt as trt

        self.device, self.precision = device, precision
        with torch.cuda.device(device):
            self._runtime = trt.Runtime(trt.Logger(trt.Logger.WARNING))
            engine: Any = self._runtime.deserialize_cuda_engine(plan)
            if engine is None:
                raise RuntimeError("it was built by another TensorRT or for another GPU")
            self._context = engine.create_execution_context()
        if tuple(engine.get_tensor_shape("image")) != (1, *size, 3):
            raise RuntimeError(f"it is for images of shape {tuple(engine.get_tensor_shape('image'))}")
        self._image = torch.empty(1, *size, 3, dtype=torch.uint8, device=device)
        self._depth = torch.empty(1, *size, dtype=torch.float32, device=device)
        self._sent = torch.empty(1, *size, 3, dtype=torch.uint8, pin_memory=True)
        self._received = torch.empty(1, *size, dtype=torch.float32, pin_memory=True)
        self._output = self._received[0].numpy()
        for name, tensor in (("image", self._image), ("depth", self._depth)):
            if not self._context.set_tensor_address(name, tensor.data_ptr()):
                raise RuntimeError(f"it has no tensor {name!r}")
        self._stream = torch.cuda.Stream(device)

    def infer(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Engine.infer`."""
        self._sent[0].copy_(torch.from_numpy(image))
        with torch.cuda.stream(self._stream):
            self._image.copy_(self._sent, non_blocking=True)
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise RuntimeError("TensorRT could not run the plan; its messages are above")
            self._received.copy_(self._depth, non_blocking=True)
        self._stream.synchronize()
        return self._output
