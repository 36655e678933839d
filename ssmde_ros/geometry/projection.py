"""Between pixels and points, for batches."""

from __future__ import annotations

import torch
from torch import Tensor


def pixel_rays(intrinsics: Tensor, height: int, width: int) -> Tensor:
    """Rays `K^-1 p` through every pixel centre, with unit z.

    Args:
        intrinsics: K `[B, 3, 3]`, pixels.
        height, width: image size, pixels.

    Returns:
        Rays `[B, 3, H, W]` in the optical frame; multiply by depth for points in metres.
    """
    if intrinsics.ndim != 3 or intrinsics.shape[1:] != (3, 3):
        raise ValueError(f"intrinsics must be [B, 3, 3], got {tuple(intrinsics.shape)}")
    rows = torch.arange(height, dtype=intrinsics.dtype, device=intrinsics.device)
    columns = torch.arange(width, dtype=intrinsics.dtype, device=intrinsics.device)
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)]).reshape(1, 3, -1)
    rays = torch.linalg.solve(intrinsics, pixels.expand(len(intrinsics), -1, -1))
    return rays.reshape(len(intrinsics), 3, height, width)


def back_project(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Points `X = D(p) K^-1 p`.

    Args:
        depth: `[B, 1, H, W]`, metres along the optical axis.
        intrinsics: K `[B, 3, 3]`, pixels.

    Returns:
        Points `[B, 3, H, W]`, metres, in the optical frame.
    """
    if depth.ndim != 4 or depth.shape[1] != 1:
        raise ValueError(f"depth must be [B, 1, H, W], got {tuple(depth.shape)}")
    return depth * pixel_rays(intrinsics, depth.shape[2], depth.shape[3])


def project(points: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels `p' = pi(K X)` and their depth.

    Args:
        points: `[B, 3, H, W]`, metres, in the optical frame of the camera that looks.
        intrinsics: K `[B, 3, 3]`, pixels.

    Returns:
        pixels `[B, 2, H, W]` (u, v) and depth `[B, 1, H, W]` in metres. Points at or behind the
        camera have depth <= 0 and meaningless pixels: mask them with the depth.
    """
    batch, _, height, width = points.shape
    image = (intrinsics @ points.reshape(batch, 3, -1)).reshape(batch, 3, height, width)
    depth = image[:, 2:]
    # Guards the division only; the sign of the depth is returned untouched for the caller's mask.
    safe = torch.where(depth.abs() < 1e-6, torch.full_like(depth, 1e-6), depth)
    return image[:, :2] / safe, depth
