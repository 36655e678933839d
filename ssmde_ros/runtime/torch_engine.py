"""Torch as an engine: eager on the CPU, as a CUDA graph on a GPU."""

from __future__ import annotations

import threading

import numpy as np
import torch
from numpy.typing import NDArray

from ssmde_ros.networks import DepthNet
from ssmde_ros.runtime.engines import EngineConfig
from ssmde_ros.runtime.live_net import LiveNet

_recording = threading.Lock()  # CUDA knows one recording at a time


class TorchEngine:
    """Eager torch in fp32 on the CPU, channels-last."""

    name, device, precision = "torch", "cpu", "fp32"

    def __init__(self, net: DepthNet, size: tuple[int, int], threads: int) -> None:
        if threads:
            torch.set_num_threads(threads)
        self._net = LiveNet(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._output = np.empty(size, np.float32)

    @torch.inference_mode()
    def infer(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Engine.infer`."""
        depth = self._net(torch.from_numpy(image)[None])
        torch.from_numpy(self._output).copy_(depth[0])
        return self._output


class CudaEngine:
    """Torch on a GPU: copies and network recorded once as a CUDA graph, then replayed.

    A graph spares the launch of some two hundred kernels from Python, which for a network this small takes longer
    than the kernels themselves. Bytes go up and depth comes down through page-locked memory.
    """

    name = "torch"

    def __init__(self, net: DepthNet, size: tuple[int, int], device: str, config: EngineConfig) -> None:
        halved = config.precision == "auto"
        self.device, self.precision = device, "fp16" if halved else "fp32"
        self._sent = torch.empty(1, *size, 3, dtype=torch.uint8, pin_memory=True)
        self._received = torch.empty(size, dtype=torch.float32, pin_memory=True)
        self._output = self._received.numpy()
        # What says fp32 is fp32: kernels with TF32 are switched off while they are chosen.
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=halved)
        with _recording, torch.cuda.device(device), exact, torch.inference_mode():
            live = LiveNet(net).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
            live = live.half() if halved else live
            image = torch.zeros(1, *size, 3, dtype=torch.uint8, device=device)
            self._stream, self._graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()
            self._stream.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(self._stream):
                for _ in range(3):  # libraries choose kernels and allocate before the recording starts
                    live(image)
            self._stream.synchronize()
            # Other threads go on using the GPU: only what this one does may not be.
            with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
                image.copy_(self._sent, non_blocking=True)
                self._received.copy_(live(image)[0], non_blocking=True)
        self._kept = live, image  # the graph knows their addresses, not that they are in use

    def infer(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Engine.infer`."""
        self._sent[0].copy_(torch.from_numpy(image))
        with torch.cuda.stream(self._stream):
            self._graph.replay()
        self._stream.synchronize()
        return self._output
