"""Which pixels count, and how frames are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.evaluation.metrics import (
    METRIC_KEYS,
    Align,
    Alignment,
    DepthMetrics,
    depth_metrics,
    fit_alignment,
)  # fmt: skip

Crop = Literal["garg", "nyu", "none"]

# First and last row, first and last column, as shares of the image.
_CROPS: dict[Crop, tuple[float, float, float, float]] = {
    "garg": (0.40810811, 0.99189189, 0.03594771, 0.96405229),
    "nyu": (45 / 480, 471 / 480, 41 / 640, 601 / 640),
    "none": (0.0, 1.0, 0.0, 1.0),
}


@dataclass(frozen=True)
class Protocol:
    """How predictions are scored against ground truth.

    Attributes:
        align: per-image alignment, see `fit_alignment`.
        crop: "garg" keeps the part of a KITTI image that lidar covers (Garg et al. 2016), "nyu" the part of
            a Kinect image that has depth (Eigen et al. 2014: rows 45:471, columns 41:601 of 480x640, in
            proportion at other sizes), "none" all of it.
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
        if self.crop not in _CROPS:
            raise ValueError(f"crop must be {', '.join(_CROPS)}, got {self.crop!r}")
        if not 0 < self.min_depth < self.max_depth < float("inf"):
            raise ValueError(f"need 0 < min_depth < max_depth, finite, got {self.min_depth} and {self.max_depth}")

    def mask(self, truth: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Pixels of a ground-truth map `[H, W]` (metres; 0, NaN or infinity where unknown) that count."""
        known = np.isfinite(truth) & (truth > self.min_depth) & (truth < self.max_depth)
        top, bottom, left, right = _CROPS[self.crop]
        height, width = truth.shape
        inside = np.zeros_like(known)
        # Truncated, as the published crops are; the 1e-6 only keeps 471 / 480 * 480 from becoming 470.
        rows = slice(int(top * height + 1e-6), int(bottom * height + 1e-6))
        inside[rows, int(left * width + 1e-6) : int(right * width + 1e-6)] = True
        return known & inside


PROTOCOLS: dict[str, Protocol] = {
    "kitti": Protocol(crop="garg", min_depth=1e-3, max_depth=80.0),
    "nyu": Protocol(crop="nyu", min_depth=0.1, max_depth=10.0),
    "ddad": Protocol(min_depth=0.1, max_depth=200.0),
    "bonn": Protocol(min_depth=0.1, max_depth=10.0),
    "tum": Protocol(min_depth=0.1, max_depth=10.0),
    "none": Protocol(),
}
"""The benchmarks' own settings, all with median alignment; "none" is where custom ones start."""


def named_protocol(name: str) -> Protocol:
    """A protocol by the name of its benchmark. Raises ValueError listing the names there are."""
    if name not in PROTOCOLS:
        raise ValueError(f"unknown protocol {name!r}; known are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


@dataclass(frozen=True)
class AlignedFrame:
    """One frame in the units of its truth.

    Attributes:
        counted: `[H, W]` bool, the pixels that count.
        prediction, truth: `[N]` metres at these pixels, the prediction aligned and clamped.
        raw: `[H, W]` the prediction as it came, at the size of the truth.
        alignment: fitted on the counted pixels.
        protocol: the one that applied.
    """

    counted: NDArray[np.bool_]
    prediction: NDArray[np.floating]
    truth: NDArray[np.floating]
    raw: NDArray[np.floating]
    alignment: Alignment
    protocol: Protocol

    def depth_map(self) -> NDArray[np.floating]:
        """The aligned, clamped prediction at every pixel `[H, W]`, metres: for pictures."""
        with np.errstate(divide="ignore"):  # where nothing counts, the prediction need not be a depth
            return self.alignment(self.raw).clip(self.protocol.min_depth, self.protocol.max_depth)


def align_frame(
    prediction: NDArray[np.floating], truth: NDArray[np.floating], protocol: Protocol
) -> AlignedFrame | None:
    """Choose the pixels that count and align the prediction on them; None when there are none.

    Args:
        prediction: `[h, w]` positive depth in any one unit; resized bilinearly to the truth when smaller or larger.
        truth: `[H, W]` metres; 0, NaN or infinity where unknown.

    Raises:
        ValueError: a prediction that is not positive or not finite where the truth is known.
    """
    if prediction.shape != truth.shape:
        size = (truth.shape[1], truth.shape[0])
        prediction = cv2.resize(prediction.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    counted = protocol.mask(truth)
    if not counted.any():
        return None
    kept, known = prediction[counted], truth[counted]
    if not (np.isfinite(kept).all() and kept.min() > 0):
        raise ValueError("the prediction is not positive and finite at every pixel with ground truth")
    alignment = fit_alignment(kept, known, protocol.align)
    aligned = alignment(kept).clip(protocol.min_depth, protocol.max_depth)
    return AlignedFrame(counted, aligned, known, prediction, alignment, protocol)


def evaluate_frame(
    prediction: NDArray[np.floating], truth: NDArray[np.floating], protocol: Protocol
) -> DepthMetrics | None:
    """Metrics of one frame over all pixels that count, or None when there are none. See `align_frame`."""
    frame = align_frame(prediction, truth, protocol)
    return depth_metrics(frame.prediction, frame.truth) if frame else None


def mean_metrics(frames: Sequence[DepthMetrics]) -> DepthMetrics:
    """Mean over frames, each frame counted once. Raises ValueError when there are none."""
    if not frames:
        raise ValueError("no frame had ground truth to score")
    return {key: float(np.mean([frame[key] for frame in frames])) for key in METRIC_KEYS}
