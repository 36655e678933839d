"""Terms of the relatives named with the paper, each an option."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from ssmde_ros.training.losses.masked import masked_mean


def successive_scale_loss(depths: Sequence[Tensor]) -> Tensor:
    """Each scale learns from the next finer one (Xiang 2024): `mean |log D_{s+1} - log D_s|`, D_s detached.

    Goes with a photometric loss on the finest scale alone, which is what saves the time.

    Args:
        depths: finest first, `[B, 1, H/s, W/s]` each, metres.
    """
    terms = []
    for finer, coarser in pairwise(depths):
        teacher = F.interpolate(finer.detach(), coarser.shape[2:], mode="area")
        terms.append((coarser.log() - teacher.log()).abs().mean())
    return torch.stack(terms).mean() if terms else depths[0].sum() * 0


def resolution_loss(low: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Distillation from a high- to a low-resolution input (Lee 2023): `mean over M of |log D_low - log D_teacher|`.

    Args:
        low: depth from the smaller input, `[B, 1, h, w]`, metres; up-sampled bilinearly here.
        teacher: depth from the full input `[B, 1, H, W]`; no gradient.
        mask: `[B, 1, H, W]` bool.
    """
    full = F.interpolate(low, teacher.shape[2:], mode="bilinear", align_corners=False)
    return masked_mean((full.log() - teacher.detach().log()).abs(), mask)


def filtered_consistency_loss(distorted: Tensor, clean: Tensor, clean_error: Tensor, distorted_error: Tensor) -> Tensor:
    """Predictions from a distorted input follow those from the clean one where the clean one explains the views better.

    Filtered prediction consistency (Mendoza & Pedrini 2022): `mean |log D_distorted - log D_clean|` over pixels
    whose reprojection error with the clean depth is the smaller one.

    Args:
        distorted, clean: depths `[B, 1, H, W]`, metres; the clean one is detached.
        clean_error, distorted_error: photometric errors `[B, 1, H, W]`, infinite where nothing was seen.
    """
    mask = torch.isfinite(clean_error) & (clean_error <= distorted_error)
    return masked_mean((distorted.log() - clean.detach().log()).abs(), mask)
