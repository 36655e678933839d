"""Sparse supervision from triangulated feature tracks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def depth_at(depth: Tensor, pixels: Tensor) -> Tensor:
    """Inverse depth `[B, P]` at sub-pixel places, interpolated in inverse depth, which is linear on planes.

    Args:
        depth: `[B, 1, H, W]`, metres.
        pixels: `[B, P, 2]` (u, v).
    """
    height, width = depth.shape[2:]
    grid = pixels * pixels.new_tensor([2 / (width - 1), 2 / (height - 1)]) - 1
    return F.grid_sample(1 / depth, grid[:, None], padding_mode="border", align_corners=True)[:, 0, 0]


def scale_from_points(depth: Tensor, pixels: Tensor, inverse_depth: Tensor, fallback: float = 1.0) -> Tensor:
    """Length `[B]` of the translation that makes triangulated depth agree with the current depth: a median ratio.

    Args:
        depth: `[B, 1, H, W]`, metres; no gradient.
        pixels: `[B, P, 2]`.
        inverse_depth: `[B, P]` in units of the translation, 0 where there is no point.
        fallback: what an image without points gets.
    """
    ratio = (inverse_depth / depth_at(depth.detach(), pixels)).masked_fill(inverse_depth <= 0, torch.nan)
    return ratio.nanmedian(1).values.nan_to_num(nan=fallback)


def lies_in(mask: Tensor, pixels: Tensor) -> Tensor:
    """Whether the nearest pixel of each place belongs to a mask, `[B, P]` bool.

    Args:
        mask: `[B, 1, H, W]` bool.
        pixels: `[B, P, 2]` (u, v).
    """
    height, width = mask.shape[2:]
    column, row = pixels[..., 0].round().clamp(0, width - 1), pixels[..., 1].round().clamp(0, height - 1)
    return mask.flatten(1).gather(1, (row * width + column).long())


def sparse_loss(
    depth: Tensor, pixels: Tensor, inverse_depth: Tensor, scale: Tensor, moving: Tensor | None = None
) -> Tensor:
    """`sum |1/D - q / s| / (P mean(q / s))`, q the triangulated inverse depth, P the places that there is room for.

    Inverse depth, because that is where the error of a triangulated point is even; relative to its mean, so that
    the term weighs the same in a kitchen and in a street. Few points say little: were the sum divided by their number, a
    dozen wrong ones on a car ahead, of a hundred in all, would outweigh every pixel of it.

    Args:
        depth: `[B, 1, H, W]`, metres.
        pixels: `[B, P, 2]` (u, v).
        inverse_depth: `[B, P]` in units of the translation, 0 where there is no point.
        scale: `[B]` metres per unit.
        moving: `[B, 1, H, W]` bool. What moves along with the camera, or against it, fits the epipolar geometry and
            triangulates all the same, to a wrong depth; such points do not count.
    """
    known = inverse_depth > 0
    if moving is not None:
        known = known & ~lies_in(moving, pixels)
    wanted = inverse_depth / scale[:, None]
    mean = (wanted * known).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp(min=1)
    error = (depth_at(depth, pixels) - wanted).abs() / mean.clamp(min=1e-6)
    return error.masked_fill(~known, 0.0).mean()
