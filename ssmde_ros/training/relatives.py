"""Options of the relatives named with the paper, beside the terms of SS-MDE itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ssmde_ros.data.triplets import Batch
from ssmde_ros.geometry import look, sample
from ssmde_ros.networks import DepthNet
from ssmde_ros.training import losses as terms
from ssmde_ros.training.config import TrainConfig
from ssmde_ros.training.mask_filter import MaskResult, TeacherViews
from ssmde_ros.training.step import Step

_LOW = 0.5  # size of the low-resolution input, share of the working size
_PATCH = 32  # pixels, side of the patches that the distortion blanks


def relative_terms(
    step: Step,
    config: TrainConfig,
    student: DepthNet,
    batch: Batch,
    depths: list[Tensor],
    motions: Tensor,
    teaching: TeacherViews | None,
    filtered: MaskResult | None,
    share: float,
) -> None:
    """Add the terms that are switched on; the others cost nothing.

    Args:
        motions: `T_{t->s}` `[B, S, 4, 4]` in the units of the student.
        share: of their weights, 0..1: all of them only ask the student to agree with itself.
    """
    loss = config.loss
    if loss.successive_scale > 0:
        step.add("successive_scale", terms.successive_scale_loss(depths), share * loss.successive_scale)
    if loss.multi_resolution > 0:
        step.add(
            "multi_resolution",
            _resolution(student, batch, depths[0], teaching, filtered),
            share * loss.multi_resolution,
        )
    if loss.distortion > 0:
        step.add("distortion", _distortion(config, student, batch, depths[0], motions), share * loss.distortion)


def _resolution(
    student: DepthNet, batch: Batch, depth: Tensor, teaching: TeacherViews | None, filtered: MaskResult | None
) -> Tensor:
    """The student on a smaller input follows the teacher (or, before there is one, itself) on the full one."""
    height, width = (max(32, round(side * _LOW / 32) * 32) for side in depth.shape[2:])
    small = F.interpolate(batch.augmented[:, 0], (height, width), mode="area")
    teacher = teaching.depth if teaching is not None else depth.detach()
    mask = filtered.mask if filtered is not None else torch.ones_like(depth, dtype=torch.bool)
    return terms.resolution_loss(student.depth(small), teacher, mask)


def _distortion(config: TrainConfig, student: DepthNet, batch: Batch, depth: Tensor, motions: Tensor) -> Tensor:
    """The student on a blurred, noisy input with blank patches follows itself where it explained the views better."""
    image = batch.augmented[:, 0]
    height, width = image.shape[2:]
    seeds = [config.run.seed * 1_000_003 + 500_000_000 + number for number in batch.number.tolist()]
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    patches = (1, -(-height // _PATCH), -(-width // _PATCH))
    holes = torch.stack([torch.rand(patches, generator=draw) < 0.1 for draw in draws])
    noise = 0.05 * torch.stack([torch.randn(image.shape[1:], generator=draw) for draw in draws])
    kept = F.interpolate((~holes).float(), scale_factor=_PATCH, mode="nearest")[..., :height, :width]
    blurred = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="reflect"), 3, 1)
    distorted = student.depth(((blurred + noise.to(image)) * kept.to(image)).clamp(0, 1))
    clean_error = _reprojection_error(depth, batch, motions)
    return terms.filtered_consistency_loss(
        distorted, depth, clean_error, _reprojection_error(distorted, batch, motions)
    )


@torch.no_grad()
def _reprojection_error(depth: Tensor, batch: Batch, motions: Tensor) -> Tensor:
    """Smallest photometric error over the sources `[B, 1, H, W]`, infinite where none sees the pixel."""
    errors = []
    for source, motion in zip(batch.frames[:, 1:].unbind(1), motions.unbind(1), strict=True):
        view = look(depth, motion, batch.intrinsics)
        error = terms.photometric_error(sample(source, view), batch.frames[:, 0])
        errors.append(error.masked_fill(~view.valid, torch.inf))
    return torch.cat(errors, 1).amin(1, keepdim=True)
