"""The metrics on all pixels, on those of the static scene, and on those of moving objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ssmde_ros.evaluation.metrics import DepthMetrics, depth_metrics
from ssmde_ros.evaluation.protocol import AlignedFrame, mean_metrics

Region = Literal["full", "static", "dynamic"]
REGIONS: tuple[Region, ...] = ("full", "static", "dynamic")


@dataclass(frozen=True)
class FrameScore:
    """One frame.

    Attributes:
        metrics: by region; a region without pixels is not in it. Without a moving mask there is "full" alone.
        pixels: how many pixels each region has; "static" and "dynamic" sum up to "full".
    """

    metrics: dict[Region, DepthMetrics]
    pixels: dict[Region, int]


@dataclass(frozen=True)
class RegionScore:
    """One region over many frames.

    Attributes:
        metrics: mean over the frames in which the region has pixels, None when there is no such frame.
        frames: how many frames these are.
        pixels: in all of them.
    """

    metrics: DepthMetrics | None
    frames: int
    pixels: int


def score_regions(frame: AlignedFrame, moving: NDArray[np.bool_] | None = None) -> FrameScore:
    """The eight metrics by region.

    Args:
        frame: aligned ONCE, on all of its pixels, whatever the region: whoever uses the depth has one scale
            for the image. Aligned on its own, a car at half its distance would score as perfect, and the
            regions would no longer add up to the full image.
        moving: `[H, W]` bool, moving objects; None when nobody knows.

    Raises:
        ValueError: a mask of another size than the truth.
    """
    everything = np.ones(len(frame.truth), bool)
    parts: dict[Region, NDArray[np.bool_]] = {"full": everything}
    if moving is not None:
        if moving.shape != frame.counted.shape:
            raise ValueError(f"the moving mask is {moving.shape}, the ground truth {frame.counted.shape}")
        # A pixel is one or the other, and "full" does not see the mask: nothing can be counted twice.
        inside = moving[frame.counted].astype(bool)
        parts |= {"static": ~inside, "dynamic": inside}
    return FrameScore(
        {name: depth_metrics(frame.prediction[part], frame.truth[part]) for name, part in parts.items() if part.any()},
        {name: int(part.sum()) for name, part in parts.items()},
    )


def mean_regions(frames: Sequence[FrameScore]) -> dict[Region, RegionScore]:
    """Means over frames by region, each frame counted once and only where it has pixels of the region.

    Returns:
        "full", and the other two when any frame had a mask.
    """
    scores: dict[Region, RegionScore] = {}
    for region in REGIONS:
        if any(region in frame.pixels for frame in frames):
            present = [frame.metrics[region] for frame in frames if region in frame.metrics]
            pixels = sum(frame.pixels.get(region, 0) for frame in frames)
            scores[region] = RegionScore(mean_metrics(present) if present else None, len(present), pixels)
    return scores
