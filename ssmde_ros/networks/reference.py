"""What the frames of a training looked like, in a few numbers: weights carry them along, to know strange frames by.

They travel in the metadata of the weights, as `provenance["reference"]`: mean and spread of each number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

_SIZE = (64, 48)  # pixels that the numbers are taken from


def describe(
    image: NDArray[np.uint8], depth: NDArray[np.floating], before: NDArray[np.floating] | None
) -> dict[str, float]:
    """The numbers of one frame.

    Args:
        image: `[H, W, 3]` RGB.
        depth: `[h, w]` metres, positive; not finite where unknown.
        before: `depth_thumbnail` of the frame before; None at the first.
    """
    small = cv2.resize(image, _SIZE, interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    spread = small.astype(np.float32).std(axis=2).mean()
    detail = float(cv2.Laplacian(grey, cv2.CV_32F).var())
    now = depth_thumbnail(depth)
    found = {
        "brightness": float(grey.mean()),
        "contrast": float(grey.std()),
        "colorfulness": float(spread),
        "detail": math.log(detail + 1.0),
        "depth_spread": float(np.nanstd(now)),
    }
    if before is not None:
        change = now - before
        found["flicker"] = float(np.nanmedian(np.abs(change - np.nanmedian(change))))
    return {name: value for name, value in found.items() if math.isfinite(value)}


def depth_thumbnail(depth: NDArray[np.floating]) -> NDArray[np.float32]:
    """Log depth at a few places `[48, 64]`, NaN where unknown."""
    rows = np.linspace(0, depth.shape[0] - 1, _SIZE[1]).astype(int)
    columns = np.linspace(0, depth.shape[1] - 1, _SIZE[0]).astype(int)
    some = depth[np.ix_(rows, columns)].astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(some)
    return np.where(np.isfinite(logs), logs, np.nan).astype(np.float32)


def reference(observations: Iterable[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and spread of each number over the frames of a training."""
    columns: dict[str, list[float]] = {}
    for each in observations:
        for name, value in each.items():
            columns.setdefault(name, []).append(value)
    return {name: (float(np.mean(values)), float(np.std(values))) for name, values in columns.items()}
