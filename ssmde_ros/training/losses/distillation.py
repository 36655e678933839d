"""Self-distillation: the student follows the teacher where the multi-view mask trusts it (DESIGN section 1)."""

from __future__ import annotations

import torch
from torch import Tensor

from ssmde_ros.training.losses.masked import masked_mean


def median_ratio(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """`s = median(D_student / D_teacher)` over the mask, per image `[B, 1, 1, 1]`; 1 where the mask is empty."""
    ratio = (student.detach() / teacher).masked_fill(~mask, torch.nan)
    return ratio.flatten(1).nanmedian(1).values.nan_to_num(nan=1.0).reshape(-1, 1, 1, 1)


def distillation_loss(student: Tensor, teacher: Tensor, mask: Tensor, weight: Tensor | None = None) -> Tensor:
    """`mean over M of |log D_student - log(s D_teacher)|`, s the per-image median ratio.

    Args:
        student, teacher: depths `[B, 1, H, W]`, metres, positive; the teacher gets no gradient.
        mask: M `[B, 1, H, W]` bool.
        weight: confidence of the mask `[B, 1, H, W]` in [0, 1]; None is 1.
    """
    if not student.shape == teacher.shape == mask.shape:
        raise ValueError(f"need one shape, got {tuple(student.shape)}, {tuple(teacher.shape)}, {tuple(mask.shape)}")
    teacher = teacher.detach()
    error = (student.log() - (median_ratio(student, teacher, mask) * teacher).log()).abs()
    return masked_mean(error, mask if weight is None else mask * weight)
