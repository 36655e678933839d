"""Surface normals from depth."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ssmde_ros.geometry.projection import back_project


def normals_from_depth(depth: Tensor, intrinsics: Tensor) -> Tensor:
    """Unit normals of the surface, pointing towards the camera.

    Cross product of the central differences of the back-projected points; one-sided at the border.

    Args:
        depth: `[B, 1, H, W]`, metres, H and W at least 2.
        intrinsics: K `[B, 3, 3]`, pixels.

    Returns:
        `[B, 3, H, W]`, optical frame; z is negative on everything that can be seen.
    """
    if min(depth.shape[2:]) < 2:
        raise ValueError(f"need at least 2x2 pixels, got {tuple(depth.shape)}")
    points = back_project(depth, intrinsics)
    padded = F.pad(points, (1, 1, 1, 1), mode="replicate")
    across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    # Down x across, not across x down: in a frame with y down and z forward this one faces the camera.
    return F.normalize(torch.cross(down, across, dim=1), dim=1)
