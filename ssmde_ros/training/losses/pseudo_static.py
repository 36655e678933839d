"""Pseudo-depth on what stands still: the map itself and its surface normals (DESIGN section 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from ssmde_ros.geometry import normals_from_depth
from ssmde_ros.training.losses.masked import masked_mean
from ssmde_ros.training.losses.pseudo import Convention, aligned_depth, aligned_map, centre_and_spread, in_convention

_FLATTEST = 0.1  # aligned to a flat student every map is flat, and would tell it to stay as it is


def pseudo_static_loss(
    depth: Tensor, pseudo: Tensor, mask: Tensor, convention: Convention = "inverse_depth", trim: float = 0.2
) -> Tensor:
    """Trimmed scale-and-shift-aligned L1, as a share of the median.

    `mean |q - P'| / median q`, q the depth in the map's own convention and P' the map with the median and the
    spread of q (Ranftl et al. 2020, eq. 5), over the mask without the `trim` largest share of the residuals of each
    image. The map is brought to the student and not both to unit spread: divided by its own spread, which is
    next to nothing, a young student would get gradients that drown all other terms.

    Args:
        depth: student `[B, 1, H, W]`, metres, positive.
        pseudo: P `[B, 1, H, W]`, unknown scale and shift, no gradient.
        mask: `[B, 1, H, W]` bool, pixels to compare.
    """
    if not depth.shape == pseudo.shape == mask.shape:
        raise ValueError(f"need one shape, got {tuple(depth.shape)}, {tuple(pseudo.shape)}, {tuple(mask.shape)}")
    values = in_convention(depth, convention)
    centre = centre_and_spread(values, mask)[0].clamp(min=torch.finfo(values.dtype).tiny)
    residual = (values - aligned_map(pseudo, values, mask, _FLATTEST)).abs() / centre
    seen = residual.detach().masked_fill(~mask, torch.nan).flatten(1)
    limit = torch.nanquantile(seen, 1 - trim, dim=1).nan_to_num(0).reshape(-1, 1, 1, 1)
    return masked_mean(residual, mask & (residual.detach() <= limit))


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
