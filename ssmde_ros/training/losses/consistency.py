"""Geometry consistency between views (Bian et al. 2019)."""

from __future__ import annotations

import torch
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


def settled(depth: Tensor, counted: Tensor) -> Tensor:
    """The same depth `[B, 1, H, W]`, but its gradient moves no whole image nearer or farther.

    `D exp(sg(m) - m)`, m the mean of `log D` over the pixels that count, sg the stopped gradient. Views of a young
    student differ most in scale, and agree the better the farther everything is: that part of the gradient, however
    small, adds up over the steps and ends at the far limit of the range.

    Args:
        depth: `[B, 1, H, W]`, positive.
        counted: `[B, 1, H, W]` bool.
    """
    weight = counted.to(depth.dtype)
    mean = (depth.log() * weight).sum((1, 2, 3), keepdim=True) / weight.sum((1, 2, 3), keepdim=True).clamp(min=1)
    return depth * torch.exp(mean.detach() - mean)


def geometry_loss(computed: Tensor, sampled: Tensor, valid: Tensor, placed: Tensor) -> Tensor:
    """Mean `D_diff` over the pixels that project inside the source and in front of it.

    Args:
        computed, sampled: see `depth_difference`.
        valid: those pixels, `[B, 1, H, W]` bool.
        placed: pixels that reprojection explains better than standing still, `[B, 1, H, W]` bool; others count 0.
    """
    return masked_mean(depth_difference(computed, sampled) * placed, valid)
