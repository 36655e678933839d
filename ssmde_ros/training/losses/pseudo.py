"""What the pseudo-depth losses share: bringing maps of unknown scale and shift together."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Convention = Literal["depth", "inverse_depth"]
"""What a pseudo-depth map is affine in: LeReS gives depth, Depth Anything and MiDaS inverse depth."""


def farther(convention: Convention) -> int:
    """1 where larger values of the map are farther away, -1 where they are nearer."""
    if convention not in ("depth", "inverse_depth"):
        raise ValueError(f"convention must be 'depth' or 'inverse_depth', got {convention!r}")
    return 1 if convention == "depth" else -1


def in_convention(depth: Tensor, convention: Convention) -> Tensor:
    """Depth `[B, 1, H, W]` (metres) in the space in which the pseudo-depth is affine-invariant."""
    return depth if farther(convention) > 0 else 1 / depth


def centre_and_spread(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Median and mean absolute deviation over the mask, per image `[B, 1, 1, 1]` (Ranftl et al. 2020, eq. 5).

    Not least squares: a regression of a young, nearly flat student on the map may have a negative slope, which
    would teach it to turn near and far around. Detached. An image with an empty mask gives 0 and 1.
    """
    known = values.detach().masked_fill(~mask, torch.nan).flatten(1)
    centre = known.nanmedian(1, keepdim=True).values
    spread = (known - centre).abs().nanmean(1, keepdim=True)
    # The least spread is a share of the values themselves: their scale is arbitrary.
    least = (1e-6 * known.abs().nan_to_num(0).amax(1, keepdim=True)).clamp(min=torch.finfo(known.dtype).tiny)
    shape = (-1, 1, 1, 1)
    return centre.nan_to_num(0).reshape(shape), torch.maximum(spread.nan_to_num(1), least).reshape(shape)


def mean_and_spread(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and mean absolute deviation over the mask, per image `[B, 1, 1, 1]`, with gradient.

    An image with an empty mask gives 1 and 1; a constant one has a spread of a millionth of its values.
    """
    count = mask.sum((1, 2, 3), keepdim=True)

    def over(x: Tensor) -> Tensor:
        return x.masked_fill(~mask, 0.0).sum((1, 2, 3), keepdim=True) / count.clamp(min=1)

    mean = over(values)
    least = (1e-6 * over(values.detach().abs())).clamp(min=torch.finfo(values.dtype).tiny)
    spread = torch.maximum(over((values - mean).abs()), least)
    one = torch.ones_like(mean)
    return torch.where(count > 0, mean, one), torch.where(count > 0, spread, one)


def aligned_depth(pseudo: Tensor, depth: Tensor, mask: Tensor, convention: Convention) -> Tensor:
    """The pseudo-depth as depth `[B, 1, H, W]` in the units of `depth`, by median and spread over the mask.

    Values that would lie behind the camera or far outside the range of `depth` are clamped to it.
    """
    values = in_convention(depth.detach(), convention)
    centre, spread = centre_and_spread(values, mask)
    middle, width = centre_and_spread(pseudo, mask)
    moved = (pseudo - middle) / width * spread + centre
    low, high = depth.detach().amin((2, 3), keepdim=True), depth.detach().amax((2, 3), keepdim=True)
    if convention == "inverse_depth":
        moved = 1 / moved.clamp(min=1e-6)
    return torch.minimum(torch.maximum(moved, 0.5 * low), 2 * high)
