"""Depth as a picture for people."""

from __future__ import annotations

import math
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray


@cache
def _palette() -> NDArray[np.uint8]:
    """Colors `[256, 3]` BGR, near to far: red to blue; entry 255 is the far end, darkest."""
    ramp = np.arange(255, -1, -1, dtype=np.uint8)[:, None]
    return cv2.applyColorMap(ramp, cv2.COLORMAP_TURBO)[:, 0].astype(np.uint8)


def color_depth(depth: NDArray[np.float32], near: float, far: float) -> NDArray[np.uint8]:
    """Logarithmic colors over a fixed range, so that a color means the same depth in every frame.

    Args:
        depth: `[H, W]` metres; +-infinity is beyond the range (REP 117), NaN unknown.
        near, far: the range in metres, 0 < near < far.

    Returns:
        `[H, W, 3]` BGR; unknown is black.
    """
    if not 0 < near < far:
        raise ValueError(f"need 0 < near < far, got {near} and {far}")
    unknown = np.isnan(depth)
    clipped = np.clip(np.where(unknown, far, depth), near, far)
    index = cv2.convertScaleAbs(cv2.log(clipped) - math.log(near), alpha=255 / math.log(far / near))
    picture = _palette()[index]
    picture[unknown] = 0
    return picture
