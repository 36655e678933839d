"""Depth error metrics and alignment (Eigen et al. 2014; alignment as in Ranftl et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Align = Literal["median", "affine", "none"]
DepthMetrics = dict[str, float]
METRIC_KEYS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "d1", "d2", "d3")

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Alignment:
    """What was fitted on some pixels of an image and can be applied to all of them.

    Attributes:
        scale: factor on the depth, or on the inverse depth when `inverse`.
        shift: added to the scaled inverse depth, 1/m; only when `inverse`.
        inverse: whether it acts on inverse depth.
    """

    scale: float = 1.0
    shift: float = 0.0
    inverse: bool = False

    def __call__(self, prediction: Floats) -> Floats:
        """Aligned depths, any shape, metres, float64; inverse depth is clamped to at least 1e-6 1/m."""
        prediction = prediction.astype(np.float64)
        if not self.inverse:
            return prediction * self.scale
        return 1 / np.maximum(self.scale / prediction + self.shift, 1e-6)


def fit_alignment(prediction: Floats, truth: Floats, align: Align) -> Alignment:
    """Fit what brings a prediction into the units of the truth, per image.

    Args:
        prediction, truth: `[N]` positive depths at the pixels that count; truth in metres.
        align: "median" is the ratio of medians; "affine" scale and shift by least squares in inverse
            depth; "none" changes nothing (metric).

    Raises:
        ValueError: an unknown alignment or no pixels.
    """
    if len(truth) == 0:
        raise ValueError("no pixels with ground truth to align on")
    prediction, truth = prediction.astype(np.float64), truth.astype(np.float64)
    if align == "median":
        return Alignment(float(np.median(truth) / np.median(prediction)))
    if align == "affine":
        inverse = 1 / prediction
        system = np.stack([inverse, np.ones_like(inverse)], 1)
        scale, shift = np.linalg.lstsq(system, 1 / truth, rcond=None)[0]
        return Alignment(float(scale), float(shift), inverse=True)
    if align == "none":
        return Alignment()
    raise ValueError(f"align must be 'median', 'affine' or 'none', got {align!r}")


def align_depth(prediction: Floats, truth: Floats, align: Align) -> Floats:
    """Bring a prediction into the units of the truth: `fit_alignment`, applied where it was fitted.

    Returns:
        Aligned depths `[N]`, metres, float64. "affine" may give non-positive inverse depth far away:
        it is clamped to 1e-6 1/m, and the caller's depth cap then applies.
    """
    return fit_alignment(prediction, truth, align)(prediction)


def depth_metrics(prediction: Floats, truth: Floats) -> DepthMetrics:
    """The eight usual errors over pixels.

    Args:
        prediction, truth: `[N]` positive depths in metres.

    Returns:
        abs_rel, sq_rel (m), rmse (m), rmse_log, log10 and the shares d1, d2, d3 of pixels with
        `max(p/t, t/p)` below 1.25, 1.25^2, 1.25^3.

    Raises:
        ValueError: different lengths, no pixels, or depths that are not positive and finite.
    """
    if prediction.shape != truth.shape or truth.ndim != 1 or len(truth) == 0:
        raise ValueError(f"need two equal, non-empty [N] arrays, got {prediction.shape} and {truth.shape}")
    p, t = prediction.astype(np.float64), truth.astype(np.float64)
    if not (np.isfinite(p).all() and np.isfinite(t).all() and p.min() > 0 and t.min() > 0):
        raise ValueError("depths must be positive and finite")
    error, log_ratio = p - t, np.log(p / t)
    ratio = np.exp(np.abs(log_ratio))
    return {
        "abs_rel": float(np.mean(np.abs(error) / t)),
        "sq_rel": float(np.mean(error**2 / t)),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "rmse_log": float(np.sqrt(np.mean(log_ratio**2))),
        "log10": float(np.mean(np.abs(log_ratio)) / np.log(10)),
        "d1": float(np.mean(ratio < 1.25)),
        "d2": float(np.mean(ratio < 1.25**2)),
        "d3": float(np.mean(ratio < 1.25**3)),
    }
