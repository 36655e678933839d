"""Pseudo-depth from LeReS (Yin et al. 2021), the provider of the paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ssmde_ros.networks.leres import INPUT_SIZE, load_leres
from ssmde_ros.training.pseudo_depth.provider import Convention, as_rgb, checked, digest_of


class LeresPseudoDepth:
    """Affine-invariant depth from a published checkpoint.

    Args:
        path: `res50.pth` or `res101.pth`.
        device: torch device to run on.

    Raises:
        WeightsError: see `load_leres`.
    """

    convention: Convention = "depth"

    def __init__(self, path: Path, device: str = "cpu") -> None:
        path = path.expanduser()
        self._net = load_leres(path).to(device)
        self._device = device
        self.identity = f"leres {self._net.backbone} {digest_of([path])} {INPUT_SIZE}x{INPUT_SIZE}"

    def predict(self, image: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
        """See `PseudoDepthProvider.predict`."""
        pixels = torch.tensor(as_rgb(image), device=self._device).permute(2, 0, 1)[None].float() / 255
        return checked(self._net.predict(pixels)[0, 0].cpu().numpy(), image, name, self.identity)
