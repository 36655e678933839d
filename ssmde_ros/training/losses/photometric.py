"""Photometric self-supervision: minimum reprojection with auto-mask (Godard et al. 2019).

`pe(a, b) = alpha (1 - SSIM(a, b)) / 2 + (1 - alpha) |a - b|_1`, alpha = 0.85; SSIM after Wang et al. 2004
over 3x3 windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ssmde_ros.training.losses.masked import masked_mean

ALPHA = 0.85
_C1, _C2 = 0.01**2, 0.03**2
_REGION = 0.04  # of the image's width: side of the window in which stationary pixels are counted
_MOST = 0.65  # share of them that makes a stationary region; half of all pixels look so where nothing can be told


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity per pixel and channel, in [-1, 1].

    Args:
        a, b: images `[B, C, H, W]` in [0, 1].

    Raises:
        ValueError: shapes that differ.
    """
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(f"need two [B, C, H, W] images, got {tuple(a.shape)} and {tuple(b.shape)}")

    def mean(x: Tensor) -> Tensor:
        # Sums of shifted views: on a CPU several times faster than the average-pooling operator.
        x = F.pad(x, (1, 1, 1, 1), mode="reflect")
        rows = x[..., :-2, :] + x[..., 1:-1, :] + x[..., 2:, :]
        return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9

    ma, mb = mean(a), mean(b)
    # The variance of a flat patch may come out as -1e-9: clamp, or the quotient leaves [-1, 1].
    va, vb = (mean(a * a) - ma * ma).clamp(min=0), (mean(b * b) - mb * mb).clamp(min=0)
    covariance = mean(a * b) - ma * mb
    above = (2 * ma * mb + _C1) * (2 * covariance + _C2)
    return above / ((ma * ma + mb * mb + _C1) * (va + vb + _C2))


def photometric_error(a: Tensor, b: Tensor, alpha: float = ALPHA) -> Tensor:
    """`pe(a, b)` `[B, 1, H, W]` of images `[B, C, H, W]` in [0, 1]; in [0, 1]."""
    structure = ((1 - ssim(a, b)) / 2).clamp(0, 1).mean(1, keepdim=True)
    return alpha * structure + (1 - alpha) * (a - b).abs().mean(1, keepdim=True)


@dataclass(frozen=True)
class PhotometricResult:
    """The term and what it saw.

    Attributes:
        loss: scalar.
        error: `[B, 1, H, W]`, minimum over the sources.
        mask: `[B, 1, H, W]` bool, pixels that counted: seen in a source and not explained by standing still.
        stationary: `[B, 1, H, W]` bool, see `whole_regions`.
    """

    loss: Tensor
    error: Tensor
    mask: Tensor
    stationary: Tensor


def photometric_loss(
    target: Tensor,
    synthesised: Sequence[Tensor],
    sources: Sequence[Tensor],
    valid: Sequence[Tensor],
    weight: Tensor | None = None,
    auto_mask: bool = True,
    whole_regions: bool = False,
) -> PhotometricResult:
    """Per-pixel minimum of the reprojection errors, where it beats the identity error.

    Args:
        target: I_t `[B, 3, H, W]` in [0, 1].
        synthesised: the target as each source shows it, `[B, 3, H, W]` each.
        sources: the sources themselves, for the identity error of the auto-mask.
        valid: `[B, 1, H, W]` bool each; pixels that project inside the source and in front of it.
        weight: `[B, 1, H, W]`, at least 0, such as `1 - D_diff`; detached here. None is 1 everywhere.
        auto_mask: leave out pixels that look best when nothing moves (a static camera, an object that keeps pace).
        whole_regions: leave out all pixels where most look so. One in ten of a car that keeps pace looks better at some
            wrong depth by chance, always at a larger one, and together they teach that the car is not there.

    Raises:
        ValueError: no source, or lists of different lengths.
    """
    if not synthesised or not len(synthesised) == len(sources) == len(valid):
        raise ValueError(
            f"need as many views as sources and masks, got {len(synthesised)}, {len(sources)}, {len(valid)}"
        )
    errors = [
        photometric_error(view, target).masked_fill(~seen, torch.inf)
        for view, seen in zip(synthesised, valid, strict=True)
    ]
    error = torch.cat(errors, 1).amin(1, keepdim=True)
    mask = torch.isfinite(error)
    stationary = torch.zeros_like(mask)
    if auto_mask:
        with torch.no_grad():
            still = torch.cat([photometric_error(source, target) for source in sources], 1)
        if whole_regions:
            # Of as many sources as the reprojection has: the least of two is less than the one there is, by chance.
            alike = still.masked_fill(~torch.cat(list(valid), 1), torch.inf).amin(1, keepdim=True)
            stationary = stationary_regions(mask & (error < alike), mask)
        mask = mask & (error < still.amin(1, keepdim=True)) & ~stationary
    counted = mask if weight is None else mask * weight
    return PhotometricResult(masked_mean(error, counted), error, mask, stationary)


@torch.no_grad()
def stationary_regions(moved: Tensor, seen: Tensor) -> Tensor:
    """Where most pixels around look best when nothing moves, `[B, 1, H, W]` bool.

    Args:
        moved: `[B, 1, H, W]` bool, pixels that reprojection explains better than standing still.
        seen: `[B, 1, H, W]` bool, pixels that can be told.
    """
    half = max(1, round(_REGION * moved.shape[3] / 2))

    def around(x: Tensor) -> Tensor:
        return F.avg_pool2d(x.float(), 2 * half + 1, 1, half, count_include_pad=False)

    return seen & (around(moved) < (1 - _MOST) * around(seen))
