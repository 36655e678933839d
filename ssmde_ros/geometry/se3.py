"""Rigid motions: exponential, logarithm-free and exact near zero.

A motion `T_{a->b}` is a matrix `[B, 4, 4]` that takes points of frame a to frame b, metres.
"""

from __future__ import annotations

import torch
from torch import Tensor

_SMALL = 1e-2  # radians; below, Taylor series of the same accuracy replace the quotients that cancel


def _sinc_terms(angle2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`sin(t)/t`, `(1 - cos t)/t^2` and `(t - sin t)/t^3` of squared angles, any shape, smooth at zero."""
    small = angle2 < _SMALL**2
    # The inner `where` keeps the unused branch away from 0/0, whose NaN would poison the gradient.
    angle = torch.where(small, torch.ones_like(angle2), angle2).sqrt()
    a = torch.where(small, 1 - angle2 / 6 + angle2**2 / 120, angle.sin() / angle)
    b = torch.where(small, 0.5 - angle2 / 24 + angle2**2 / 720, (1 - angle.cos()) / angle**2)
    c = torch.where(small, 1 / 6 - angle2 / 120 + angle2**2 / 5040, (angle - angle.sin()) / angle**3)
    return a, b, c


def skew(vector: Tensor) -> Tensor:
    """Cross-product matrices `[B, 3, 3]` of vectors `[B, 3]`: `skew(v) @ w = v x w`."""
    if vector.ndim != 2 or vector.shape[1] != 3:
        raise ValueError(f"need vectors [B, 3], got {tuple(vector.shape)}")
    x, y, z = vector.unbind(1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)


def so3_exp(axis_angle: Tensor) -> Tensor:
    """Rotations `[B, 3, 3]` of axis-angle vectors `[B, 3]` in radians (Rodrigues' formula)."""
    matrix = skew(axis_angle)
    a, b, _ = _sinc_terms((axis_angle**2).sum(1)[:, None, None])
    return torch.eye(3, dtype=matrix.dtype, device=matrix.device) + a * matrix + b * matrix @ matrix


def se3_exp(twist: Tensor) -> Tensor:
    """Motions `[B, 4, 4]` of twists `[B, 6]`: rotation (radians) first, then translation (metres).

    The exponential of se(3): the translation is carried along the turning frame, `t = V rho` with
    `V = I + b W + c W^2` (Murray, Li & Sastry 1994, section 2.3).
    """
    if twist.ndim != 2 or twist.shape[1] != 6:
        raise ValueError(f"need twists [B, 6], got {tuple(twist.shape)}")
    matrix = skew(twist[:, :3])
    _, b, c = _sinc_terms((twist[:, :3] ** 2).sum(1)[:, None, None])
    along = torch.eye(3, dtype=matrix.dtype, device=matrix.device) + b * matrix + c * matrix @ matrix
    return rigid_motion(so3_exp(twist[:, :3]), (along @ twist[:, 3:, None])[..., 0])


def rigid_motion(rotation: Tensor, translation: Tensor) -> Tensor:
    """Motions `[B, 4, 4]` from rotations `[B, 3, 3]` and translations `[B, 3]` in metres."""
    top = torch.cat([rotation, translation[..., None]], 2)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=top.dtype, device=top.device).expand(len(top), 1, 4)
    return torch.cat([top, bottom], 1)


def inverse(motion: Tensor) -> Tensor:
    """`T_{b->a}` from `T_{a->b}`, both `[B, 4, 4]`, exact for rigid motions and cheap."""
    if motion.ndim != 3 or motion.shape[1:] != (4, 4):
        raise ValueError(f"need motions [B, 4, 4], got {tuple(motion.shape)}")
    back = motion[:, :3, :3].transpose(1, 2)
    return rigid_motion(back, -(back @ motion[:, :3, 3:])[..., 0])


def transform(motion: Tensor, points: Tensor) -> Tensor:
    """Points `[B, 3, H, W]` of frame a in frame b, given `T_{a->b}` `[B, 4, 4]`."""
    batch, _, height, width = points.shape
    moved = motion[:, :3, :3] @ points.reshape(batch, 3, -1) + motion[:, :3, 3:]
    return moved.reshape(batch, 3, height, width)
