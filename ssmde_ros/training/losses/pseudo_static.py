"""Pseudo-depth on what stands still: the map itself and its surface normals."""

from __future__ import annotations

import torch
from torch import Tensor

from ssmde_ros.geometry import normals_from_depth
from ssmde_ros.training.losses.masked import masked_mean
from ssmde_ros.training.losses.pseudo import (
    Convention,
    aligned_depth,
    centre_and_spread,
    in_convention,
    mean_and_spread,
)

_FLATTEST = 0.1  # spread of a student, as a share of its mean, below which it counts as this


def pseudo_static_loss(
    depth: Tensor, pseudo: Tensor, mask: Tensor, convention: Convention = "inverse_depth", trim: float = 0.2
) -> Tensor:
    """Trimmed scale-and-shift-invariant L1 (Ranftl et al. 2020, eq. 5 to 7), as a share of the mean.

    `b / m mean |(q - m) / b - (P - m_P) / b_P|`, q the depth in the map's own convention, m its mean and b its mean
    absolute deviation over the mask without the pixels, a share of `trim` in each image, that fit worst. The factor
    in front is a constant to the gradient: a young student, whose b is next to nothing, would get gradients that
    drown all other terms. m and b are not: the gradient then has no part that moves the whole image nearer or
    farther, and that part, however small, would add up over the steps and carry the depth to the end of its range.

    Args:
        depth: student `[B, 1, H, W]`, metres, positive.
        pseudo: P `[B, 1, H, W]`, unknown scale and shift, no gradient.
        mask: `[B, 1, H, W]` bool, pixels to compare.
    """
    if not depth.shape == pseudo.shape == mask.shape:
        raise ValueError(f"need one shape, got {tuple(depth.shape)}, {tuple(pseudo.shape)}, {tuple(mask.shape)}")
    values, pseudo = in_convention(depth, convention), pseudo.detach()
    kept = mask & _inliers(values.detach(), pseudo, mask, trim)
    mean, spread = mean_and_spread(values, kept)
    # Of a student that is flatter still, every map would be an enlargement of its noise.
    spread = torch.maximum(spread, _FLATTEST * mean)
    middle, width = mean_and_spread(pseudo, kept)
    residual = ((values - mean) / spread - (pseudo - middle) / width).abs()
    return masked_mean(residual * (spread / mean).detach(), kept)


def _inliers(values: Tensor, pseudo: Tensor, mask: Tensor, trim: float) -> Tensor:
    """Where two maps `[B, 1, H, W]` agree best once median and spread are brought together."""
    (centre, spread), (middle, width) = centre_and_spread(values, mask), centre_and_spread(pseudo, mask)
    residual = ((values - centre) / spread - (pseudo - middle) / width).abs()
    seen = residual.masked_fill(~mask, torch.nan).flatten(1)
    return residual <= torch.nanquantile(seen, 1 - trim, dim=1).nan_to_num(0).reshape(-1, 1, 1, 1)


def normal_loss(
    depth: Tensor, pseudo: Tensor, mask: Tensor, intrinsics: Tensor, convention: Convention = "inverse_depth"
) -> Tensor:
    """`mean (1 - n . n*)` of the surface normals of the depth and of the aligned pseudo-depth; in [0, 2].

    Args:
        depth, pseudo, mask: as in `pseudo_static_loss`.
        intrinsics: K `[B, 3, 3]`, pixels.
    """
    with torch.no_grad():
        wanted = normals_from_depth(aligned_depth(pseudo, depth, mask, convention), intrinsics)
    found = normals_from_depth(depth, intrinsics)
    return masked_mean(1 - (found * wanted).sum(1, keepdim=True), mask)
