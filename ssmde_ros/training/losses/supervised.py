"""Losses of depth against true depth: drawings know theirs, and replayed material brings it along."""

from __future__ import annotations

import torch
from torch import Tensor


def log_depth_loss(depth: Tensor, truth: Tensor, far: float, sky_weight: float) -> Tensor:
    """Scale-invariant L1 in log depth: `mean |e - median(e)| + 0.1 |median(e)|`, `e = log D - log D*`.

    The idea of Eigen et al. 2014 (errors up to a common factor are cheap) with the robust median of
    Ranftl et al. 2020. A little of the absolute error stays, which anchors the scale.

    Args:
        depth, truth: `[B, 1, H, W]` metres; infinite truth is sky, compared with `far`.
    """
    sky = torch.isinf(truth)
    error = depth.log() - truth.clamp(0.1, far).log()
    known = torch.where(sky, torch.nan, error.detach())
    centre = known.flatten(1).nanmedian(1).values.nan_to_num().reshape(-1, 1, 1, 1)
    weight = torch.where(sky, sky_weight, 1.0)
    return ((error - centre).abs() * weight).mean() + 0.1 * (error * ~sky).mean((1, 2, 3)).abs().mean()


def log_gradient_loss(depth: Tensor, truth: Tensor, far: float, scales: int = 4) -> Tensor:
    """Differences of the log-depth error between neighbours at several strides (Li & Snavely 2018).

    Args:
        depth, truth: `[B, 1, H, W]` metres; infinite truth counts as `far`.
    """
    error = depth.log() - truth.clamp(0.1, far).log()
    terms = []
    for scale in range(scales):
        step = error[..., :: 2**scale, :: 2**scale]
        if min(step.shape[-2:]) < 2:  # too small a map to have neighbours at this stride
            break
        terms.append(
            (step[..., 1:] - step[..., :-1]).abs().mean() + (step[..., 1:, :] - step[..., :-1, :]).abs().mean()
        )
    return torch.stack(terms).mean()
