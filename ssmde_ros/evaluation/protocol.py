"""Which pixels count, and how frames are averaged (DESIGN section 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.evaluation.metrics import METRIC_KEYS, Align, DepthMetrics, align_depth, depth_metrics

Crop = Literal["garg", "none"]


@dataclass(frozen=True)
class Protocol:
    """How predictions are scored against ground truth.

    Attributes:
        align: per-image alignment, see `align_depth`.
        crop: "garg" keeps the part of a KITTI image that lidar covers (Garg et al. 2016), "none" all of it.
        min_depth, max_depth: truth outside this range does not count, predictions are clamped to it; metres.

    Raises:
        ValueError: an unknown alignment or crop, or an empty range.
    """

    align: Align = "median"
    crop: Crop = "none"
    min_depth: float = 1e-3
    max_depth: float = 80.0

    def __post_init__(self) -> None:
        if self.align not in ("median", "affine", "none"):
            raise ValueError(f"align must be median, affine or none, got {self.align!r}")
        if self.crop not in ("garg", "none"):
            raise ValueError(f"crop must be garg or none, got {self.crop!r}")
        if not 0 < self.min_depth < self.max_depth:
            raise ValueError(f"need 0 < min_depth < max_depth, got {self.min_depth} and {self.max_depth}")

    def mask(self, truth: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Pixels of a ground-truth map `[H, W]` (metres; 0, NaN or infinity where unknown) that count."""
        known = np.isfinite(truth) & (truth > self.min_depth) & (truth < self.max_depth)
        if self.crop == "garg":
            height, width = truth.shape
            rows = slice(int(0.40810811 * height), int(0.99189189 * height))
            columns = slice(int(0.03594771 * width), int(0.96405229 * width))
            inside = np.zeros_like(known)
            inside[rows, columns] = True
            known &= inside
        return known


def evaluate_frame(
    prediction: NDArray[np.floating], truth: NDArray[np.floating], protocol: Protocol
) -> DepthMetrics | None:
    """Metrics of one frame, or None when no pixel of it counts.

    Args:
        prediction: `[h, w]` positive depth in any one unit; resized bilinearly to the truth when smaller or larger.
        truth: `[H, W]` metres; 0, NaN or infinity where unknown.

    Raises:
        ValueError: a prediction that is not positive or not finite where the truth is known.
    """
    if prediction.shape != truth.shape:
        size = (truth.shape[1], truth.shape[0])
        prediction = cv2.resize(prediction.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    mask = protocol.mask(truth)
    if not mask.any():
        return None
    kept = prediction[mask]
    if not (np.isfinite(kept).all() and kept.min() > 0):
        raise ValueError("the prediction is not positive and finite at every pixel with ground truth")
    aligned = align_depth(kept, truth[mask], protocol.align)
    return depth_metrics(aligned.clip(protocol.min_depth, protocol.max_depth), truth[mask])


def mean_metrics(frames: Sequence[DepthMetrics]) -> DepthMetrics:
    """Mean over frames, each frame counted once. Raises ValueError when there are none."""
    if not frames:
        raise ValueError("no frame had ground truth to score")
    return {key: float(np.mean([frame[key] for frame in frames])) for key in METRIC_KEYS}
