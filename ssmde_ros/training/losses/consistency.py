"""Geometry consistency between views (Bian et al. 2019)."""

from __future__ import annotations

from torch import Tensor

from ssmde_ros.training.losses.masked import masked_mean


def depth_difference(computed: Tensor, sampled: Tensor) -> Tensor:
    """`D_diff = |z' - D_s<p'>| / (z' + D_s<p'>)` `[B, 1, H, W]`, in [0, 1) for positive depths.

    Args:
        computed: z', target points seen from the source, `[B, 1, H, W]`; not positive behind the camera.
        sampled: the source's own depth at those pixels, `[B, 1, H, W]`, positive.
    """
    if computed.shape != sampled.shape:
        raise ValueError(f"depths must have one shape, got {tuple(computed.shape)} and {tuple(sampled.shape)}")
    # Behind the camera the quotient means nothing and may divide by zero; such pixels are masked by the caller.
    return (computed - sampled).abs() / (computed.clamp(min=0) + sampled).clamp(min=1e-6)


def geometry_loss(computed: Tensor, sampled: Tensor, valid: Tensor) -> Tensor:
    """Mean `D_diff` over the pixels that project inside the source and in front of it (`valid`, bool)."""
    return masked_mean(depth_difference(computed, sampled), valid)
