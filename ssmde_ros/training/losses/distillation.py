"""Self-distillation: the student follows the teacher where the multi-view mask trusts it."""

from __future__ import annotations

import torch
from torch import Tensor

from ssmde_ros.training.losses.masked import masked_mean

_REST = 0.1  # share of an image that can tell its scale


def median_ratio(student: Tensor, teacher: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """`s = median(D_student / D_teacher)` over the mask, per image `[B, 1, 1, 1]`; 1 where the mask is empty.

    Args:
        student, teacher: depths `[B, 1, H, W]`, positive; no gradient.
        mask: `[B, 1, H, W]` bool.
        weight: `[B, 1, H, W]`, at least 0, for a weighted median; None is the same for all.
    """
    ratio = (student.detach() / teacher).masked_fill(~mask, torch.nan).flatten(1)
    if weight is None:
        return ratio.nanmedian(1).values.nan_to_num(nan=1.0).reshape(-1, 1, 1, 1)
    heavy = (weight.detach() * mask).flatten(1)
    order = ratio.nan_to_num(torch.inf).argsort(1)
    reached = heavy.gather(1, order).cumsum(1)
    total = reached[:, -1:]
    first = (reached >= total / 2).to(torch.uint8).argmax(1, keepdim=True)
    found = ratio.gather(1, order.gather(1, first))
    return torch.where(total > 0, found, 1.0).reshape(-1, 1, 1, 1)


def distillation_loss(student: Tensor, teacher: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """`mean over M of |log D_student - log(s D_teacher)|`, s the per-image median ratio, weighted like the mean.

    With the median of the same weights as many pixels are pulled nearer as farther; otherwise a teacher that
    follows the student would drift away with it.

    Args:
        student, teacher: depths `[B, 1, H, W]`, metres, positive; the teacher gets no gradient.
        mask: M `[B, 1, H, W]` bool.
        weight: confidence of the mask `[B, 1, H, W]` in [0, 1]; None is 1.
    """
    if not student.shape == teacher.shape == mask.shape:
        raise ValueError(f"need one shape, got {tuple(student.shape)}, {tuple(teacher.shape)}, {tuple(mask.shape)}")
    teacher = teacher.detach()
    scale = median_ratio(student, teacher, mask, weight)
    error = (student.log() - (scale * teacher).log()).abs()
    return masked_mean(error, mask if weight is None else mask * weight)


def prior_loss(student: Tensor, teacher: Tensor, mask: Tensor, shown: Tensor) -> Tensor:
    """`sum over the mask of |log D_student - log(s D_teacher)|`, per pixel of the whole image.

    Unlike in `distillation_loss` s is the median ratio of the rest of the image, so that the region cannot drift away from
    it; where hardly any rest is left, s is that of all. Small regions weigh little.

    Args:
        student, teacher: depths `[B, 1, H, W]`, metres, positive; the teacher gets no gradient.
        mask: `[B, 1, H, W]` bool.
        shown: `[B, 1, H, W]` bool, pixels that a camera has seen.
    """
    rest = shown & ~mask
    enough = rest.float().mean((1, 2, 3), keepdim=True) > _REST
    teacher = teacher.detach()
    scale = median_ratio(student, teacher, torch.where(enough, rest, shown))
    return ((student.log() - (scale * teacher).log()).abs() * (mask & shown)).mean()
