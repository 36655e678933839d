"""What a map of unknown scale and shift cannot say: how much farther far is than near. The motion can."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ssmde_ros.geometry import look, sample
from ssmde_ros.training.losses import photometric_error
from ssmde_ros.training.losses.pseudo import Convention, in_convention, mean_and_spread

# Shares of the largest contrast that a map can have, at which its smallest values are 0.
_SHARES = (0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.88, 0.94, 0.98)
_SMALLEST = 0.02  # quantile of the map that counts as its smallest value
_FLOOR = 0.01  # least value, as a share of the mean: nothing lies at infinity or in the lens


@torch.no_grad()
def motion_contrast(
    pseudo: Tensor,
    depth: Tensor,
    mask: Tensor,
    target: Tensor,
    sources: Sequence[Tensor],
    motions: Sequence[Tensor],
    intrinsics: Tensor,
    convention: Convention,
) -> Tensor:
    """Spread over mean `[B, 1, 1, 1]` of the pseudo-depth when it is shifted such that the sources look most alike.

    Scale and shift of a pseudo-depth are unknown. With the mean of the student, which the photometric loss finds by
    itself soon enough, one number is left to search; at half size, by the photometric error that the map gives.

    Args:
        pseudo: P `[B, 1, H, W]`.
        depth: student `[B, 1, H, W]`, metres, for the mean.
        mask: `[B, 1, H, W]` bool, what stands still.
        target, sources: `[B, 3, H, W]` in [0, 1].
        motions: `T_{t->s}` `[B, 4, 4]` each.
        intrinsics: K `[B, 3, 3]`, pixels.
        convention: of the pseudo-depth.
    """
    level = mean_and_spread(in_convention(depth, convention), mask)[0]
    middle, width = mean_and_spread(pseudo, mask)
    shape = (pseudo - middle) / width
    least = torch.nanquantile(shape.masked_fill(~mask, torch.nan).flatten(1), _SMALLEST, dim=1).nan_to_num(-1)
    largest = 1 / (-least).clamp(min=1e-3).reshape(-1, 1, 1, 1)
    small, seen = _halved(shape), _halved(mask.to(shape.dtype)) > 0.99
    image, others = _halved(target), [_halved(s) for s in sources]
    lens = intrinsics * intrinsics.new_tensor([[0.5, 1, 0.5], [1, 0.5, 0.5], [1, 1, 1]])
    lens[:, :2, 2] -= 0.25  # half a pixel of the large image is a quarter of the small one's
    errors = []
    for share in _SHARES:
        values = level * (1 + share * largest * small).clamp(min=_FLOOR)
        candidate = in_convention(values, convention)  # its own inverse
        views = [look(candidate, motion, lens) for motion in motions]
        made = [photometric_error(sample(s, v), image) for s, v in zip(others, views, strict=True)]
        best = torch.stack(made).amin(0).masked_fill(~seen, torch.nan)
        errors.append(best.flatten(1).nanmean(1).nan_to_num(0))
    shares = torch.tensor(_SHARES, device=depth.device, dtype=depth.dtype)[torch.stack(errors).argmin(0)]
    return shares.reshape(-1, 1, 1, 1) * largest


def contrast_loss(depth: Tensor, contrast: Tensor, mask: Tensor, convention: Convention) -> Tensor:
    """`mean |b / m - contrast|`, m and b the student's mean and mean absolute deviation over the mask.

    Args:
        depth: student `[B, 1, H, W]`, metres.
        contrast: `[B, 1, 1, 1]`, of the pseudo-depth.
        mask: `[B, 1, H, W]` bool.
    """
    mean, spread = mean_and_spread(in_convention(depth, convention), mask)
    return (spread / mean - contrast).abs().mean()


def _halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)
