"""Depth from network to camera size, without points that float between an object and what is behind it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_CROSS = np.ones((3, 3), np.uint8)


class DepthUpsampler:
    """Bilinear on surfaces, nearest neighbour across depth steps.

    Interpolating over an occlusion edge invents depths that exist nowhere: the "flying points" of many
    depth clouds. Where the depths around a pixel differ by more than `step` (a ratio), the nearest one is taken.

    Args:
        size: output (height, width), pixels.
        step: ratio of farthest to nearest depth in the neighbourhood that counts as an edge; above 1.
    """

    def __init__(self, size: tuple[int, int], step: float = 1.15) -> None:
        if step <= 1:
            raise ValueError(f"step is a ratio above 1, got {step}")
        self.size, self.step = size, step
        self._smooth = np.empty(size, np.float32)
        self._nearest = np.empty(size, np.float32)

    def __call__(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """Depth `[H, W]` from depth `[h, w]`, metres; valid until the next call."""
        target = (self.size[1], self.size[0])
        if depth.shape == self.size:
            np.copyto(self._smooth, depth)
            return self._smooth
        cv2.resize(depth, target, dst=self._smooth, interpolation=cv2.INTER_LINEAR)
        near, far = cv2.erode(depth, _CROSS), cv2.dilate(depth, _CROSS)
        edge = (far > self.step * near).view(np.uint8)
        if edge.any():
            # The 3x3 neighbourhood of the nearest pixel covers the 2x2 that bilinear interpolation reads.
            exact = cv2.INTER_NEAREST_EXACT
            cv2.resize(depth, target, dst=self._nearest, interpolation=exact)
            cv2.copyTo(self._nearest, cv2.resize(edge, target, interpolation=exact), self._smooth)
        return self._smooth
