"""The pinhole camera in the optical frame (REP 103: x right, y down, z forward).

Pixel coordinates follow OpenCV and ROS: the centre of the top-left pixel is (0, 0), so the image
spans [-0.5, width - 0.5]. Every change of size below keeps that convention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

    def rows(self) -> list[list[float]]:
        """Intrinsic matrix K, three rows of three, pixels."""
        return [[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]]

    def matrix(self, dtype: torch.dtype | None = None) -> Tensor:
        """Intrinsic matrix K `[3, 3]` in pixels; float32 where nothing else is asked for."""
        import torch  # seconds, which the live path does without

        return torch.tensor(self.rows(), dtype=dtype or torch.float32)
