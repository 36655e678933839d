"""Which motion a training step believes: an aid where it knows, the pose network elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ssmde_ros.data.triplets import Batch
from ssmde_ros.geometry import rigid_motion
from ssmde_ros.networks import PoseNet
from ssmde_ros.training.losses import mean_depth, scale_from_points


@dataclass(frozen=True)
class EgoMotion:
    """Motions of a batch, in the units of the student's depth.

    Attributes:
        motions: `T_{t->s}` `[B, S, 4, 4]`, for view synthesis.
        scale: `[B, S]` length of the aid's unit, for the triangulated points.
        regulariser: scalar that pulls the network towards the aid.
        from_aid: share of the pairs whose motion the aid knew.
    """

    motions: Tensor
    scale: Tensor
    regulariser: Tensor
    from_aid: float


def network_motions(net: PoseNet, frames: Tensor, intrinsics: Tensor) -> Tensor:
    """`T_{t->s}` `[B, S, 4, 4]` from the pose network, in its own units: see `measured_by`.

    Args:
        frames: `[B, 1+S, 3, H, W]`, the target first.
        intrinsics: K `[B, 3, 3]`.
    """
    count = frames.shape[1] - 1
    target = frames[:, :1].expand(-1, count, -1, -1, -1).flatten(0, 1)
    motions = net(target, frames[:, 1:].flatten(0, 1), intrinsics.repeat_interleave(count, 0))
    return motions.unflatten(0, (-1, count))


def measured_by(depth: Tensor, motions: Tensor) -> Tensor:
    """Motions of the pose network in the units of a depth: translation times the depth of mean inverse depth.

    Depth and motion have one scale from the first step on, and no loss of both changes with it. That needs the
    gradient through the mean (the normalisation of Wang et al. 2018, "Learning depth from monocular videos using
    direct methods"): without it a wrong motion, which does least harm to things far away, drives all depth
    to the far end of its range.

    Args:
        depth: of the target `[B, 1, H, W]`.
        motions: `[B, S, 4, 4]`.
    """
    shift = motions[..., :3, 3] * mean_depth(depth)[:, None, None]
    return rigid_motion(motions[..., :3, :3].flatten(0, 1), shift.flatten(0, 1)).reshape(motions.shape)


def pose_difference(estimate: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """`mean |R - R*|_F + |t - t*| / |t*|`, zero for pairs that are not known.

    The Frobenius distance is `2 sqrt(2) |sin(angle / 2)|` and, unlike the angle itself, has a slope everywhere.

    Args:
        estimate, wanted: `[B, S, 4, 4]`.
        known: `[B, S]` bool.
    """
    turn = (estimate[..., :3, :3] - wanted[..., :3, :3]).flatten(2).square().sum(2).add(1e-12).sqrt()
    length = wanted[..., :3, 3].norm(dim=2).clamp(min=1e-3)
    shift = (estimate[..., :3, 3] - wanted[..., :3, 3]).square().sum(2).add(1e-12).sqrt() / length
    weight = known.to(turn)
    return ((turn + shift) * weight).mean()


def ego_motion(net: PoseNet, batch: Batch, depth: Tensor, min_points: int, slack: float = 0.0) -> EgoMotion:
    """Put network and aid together.

    A motion of unit length is scaled so that its triangulated points agree with the current depth; where there are
    too few of them, the network's motion is taken.

    Args:
        depth: student depth of the target `[B, 1, H, W]`, metres.
        min_points: points that a motion of unit length must have.
        slack: how far a metric translation may be stretched to agree with the current depth, relative.
    """
    free = network_motions(net, batch.augmented, batch.intrinsics)
    learned = measured_by(depth, free)
    if not batch.motion_known.any():
        ones = torch.ones_like(batch.motions[..., 0, 0])
        return EgoMotion(learned, ones, free.sum() * 0, 0.0)
    scales = [
        scale_from_points(depth, batch.pixels[:, s], batch.inverse_depth[:, s]) for s in range(batch.motions.shape[1])
    ]
    fitting = torch.stack(scales, 1)
    # Over a few centimetres odometry is off by a tenth and more: let each pair breathe, but no farther.
    scale = torch.where(batch.motion_metric, fitting.clamp(1 / (1 + slack), 1 + slack), fitting)
    enough = (batch.inverse_depth > 0).sum(2) >= min_points
    known = batch.motion_known & (batch.motion_metric | enough)
    shift = batch.motions[..., :3, 3] * scale[..., None]
    shape = batch.motions.shape
    aid = rigid_motion(batch.motions[..., :3, :3].flatten(0, 1), shift.flatten(0, 1)).reshape(shape)
    motions = torch.where(known[..., None, None], aid, learned)
    # The aid teaches the network how to move, not the student how deep things are.
    regulariser = pose_difference(measured_by(depth.detach(), free), aid, known)
    return EgoMotion(motions, scale, regulariser, float(known.float().mean()))
