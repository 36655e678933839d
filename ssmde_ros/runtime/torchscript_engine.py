"""TorchScript on CPU or GPU."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


class TorchScriptEngine:
    """A `.ts` file that `ssmde export` wrote.

    Args:
        content: of the file.
        device: of torch.
        threads: 0 for torch's choice.
        precision: of its weights, for people.

    Raises:
        RuntimeError, ValueError: torch cannot read it.
    """

    name = "torch"

    def __init__(self, content: bytes, device: str, threads: int, precision: str) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.device, self.precision = device, precision
        self._live: Any = torch.jit.load(io.BytesIO(content), map_location=device).eval()

    @torch.inference_mode()
    def infer(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Engine.infer`."""
        depth: NDArray[np.float32] = self._live(torch.from_numpy(image)[None].to(self.device))[0].cpu().numpy()
        return depth
