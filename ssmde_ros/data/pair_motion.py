"""What is known about two frames of one camera: its motion, and points that both see."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

POINTS = 1024  # kept per pair, so that pairs stack


@dataclass(frozen=True)
class PairMotion:
    """What is known about one pair (target, source) of frames.

    Attributes:
        motion: `T_{t->s}` `[4, 4]`; its translation is metric, or of unit length when `metric` is False.
        metric: whether it came from odometry.
        pixels: `[POINTS, 2]` (u, v) in the target at working size, padded with zeros.
        inverse_depth: `[POINTS]` in units of the translation, 0 where padded.
    """

    motion: Tensor
    metric: bool
    pixels: Tensor
    inverse_depth: Tensor
