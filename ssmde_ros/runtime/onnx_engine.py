"""ONNX Runtime on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class OnnxEngine:
    """An ONNX model of `onnx_model`: a file of `ssmde export`, or one from the cache.

    Args:
        content: of the file.
        threads: 0 for one per core.
        precision: of its weights, for people.

    Raises:
        RuntimeError: ONNX Runtime cannot read it.
    """

    name = "onnxruntime"
    device = "cpu"

    def __init__(self, content: bytes, threads: int, precision: str) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors; of warnings there is one for each operator it would rather not fuse
        self.precision = precision
        try:
            self._session: Any = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no base class but this
            raise RuntimeError(str(error)) from error

    def infer(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Engine.infer`."""
        try:
            depth: NDArray[np.float32] = self._session.run(["depth"], {"image": image[None]})[0][0]
        except Exception as error:
            raise RuntimeError(str(error)) from error
        return depth
