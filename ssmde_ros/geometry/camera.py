"""The pinhole camera in the optical frame (REP 103: x right, y down, z forward).

Pixel coordinates follow OpenCV and ROS: the centre of the top-left pixel is (0, 0), so the image
spans [-0.5, width - 0.5]. Every change of size below keeps that convention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PinholeCamera:
    """A rectified camera: `p = K X / Z`, lengths in pixels.

    Attributes:
        width, height: image size in pixels.
        fx, fy: focal lengths in pixels, positive.
        cx, cy: principal point in pixels.

    Raises:
        ValueError: a size or focal length that is not positive, or a value that is not finite.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        values = (self.fx, self.fy, self.cx, self.cy)
        if not all(math.isfinite(v) for v in values) or self.fx <= 0 or self.fy <= 0:
            raise ValueError(f"not a usable pinhole camera: fx={self.fx} fy={self.fy} cx={self.cx} cy={self.cy}")
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"camera size must be positive, got {self.width}x{self.height}")

    @classmethod
    def from_hfov(cls, width: int, height: int, hfov: float) -> PinholeCamera:
        """A camera with square pixels, a centred principal point and horizontal field of view `hfov` (radians)."""
        if not 0 < hfov < math.pi:
            raise ValueError(f"horizontal field of view must lie in (0, pi) radians, got {hfov}")
        focal = width / (2 * math.tan(hfov / 2))
        return cls(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)

    def resized(self, width: int, height: int) -> PinholeCamera:
        """The same view sampled at another size; rows and columns scale independently."""
        sx, sy = width / self.width, height / self.height
        # Pixel centres sit at integers, so it is the image border, at -0.5, that stays put.
        cx = (self.cx + 0.5) * sx - 0.5
        cy = (self.cy + 0.5) * sy - 0.5
        return PinholeCamera(width, height, self.fx * sx, self.fy * sy, cx, cy)

    def matrix(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Intrinsic matrix K `[3, 3]` in pixels."""
        return torch.tensor([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=dtype)


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
    """Points `X = D(p) K^-1 p` (DESIGN section 1).

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
