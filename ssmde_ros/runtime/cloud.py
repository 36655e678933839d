"""Depth to the bytes of a point cloud, in one vectorised pass into a buffer that is kept."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.geometry import PinholeCamera


@dataclass(frozen=True)
class CloudConfig:
    """What the cloud holds.

    Attributes:
        color: xyzrgb (16 bytes a point) instead of xyz (12).
        organised: one point per pixel, NaN where unknown; otherwise valid points only.
        decimation: keep every n-th row and column.
        min_range, max_range: depth limits in metres; points outside are left out.
    """

    color: bool = True
    organised: bool = True
    decimation: int = 1
    min_range: float = 0.0
    max_range: float = float("inf")

    def __post_init__(self) -> None:
        if self.decimation < 1:
            raise ValueError(f"decimation must be at least 1, got {self.decimation}")
        if not 0 <= self.min_range < self.max_range:
            raise ValueError(f"need 0 <= min_range < max_range, got {self.min_range} and {self.max_range}")


class CloudBuilder:
    """Points of one camera.

    Args:
        camera: the camera of the depth images, size included.
        config: what to build.
    """

    def __init__(self, camera: PinholeCamera, config: CloudConfig) -> None:
        self.camera, self.config = camera, config
        step = config.decimation
        x = (np.arange(0, camera.width, step, dtype=np.float32) - camera.cx) / camera.fx
        y = (np.arange(0, camera.height, step, dtype=np.float32) - camera.cy) / camera.fy
        self._x, self._y = np.ascontiguousarray(np.broadcast_to(x, (len(y), len(x)))), y[:, None]
        self._channels = 4 if config.color else 3
        self._points = np.empty((len(y), len(x), self._channels), np.float32)

    def __call__(self, depth: NDArray[np.float32], image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Points of one frame; valid until the next call.

        Args:
            depth: `[H, W]` metres; anything not finite is unknown or out of range.
            image: `[H, W, 3]` RGB of the same view.

        Returns:
            Organised: `[h, w, c]`; sparse: `[N, c]`. Channels x, y, z in metres in the optical frame
            and, with color, the four bytes B, G, R, 255 seen as a float32 (the `rgb` field of PCL).
        """
        step = self.config.decimation
        z = np.ascontiguousarray(depth[::step, ::step])
        good = (z > self.config.min_range) & (z < self.config.max_range)
        z = np.where(good, z, np.float32(np.nan))
        planes = [cv2.multiply(self._x, z), z * self._y, z]
        if self.config.color:
            bgra = cv2.cvtColor(np.ascontiguousarray(image[::step, ::step]), cv2.COLOR_RGB2BGRA)
            planes.append(bgra.view(np.float32)[..., 0])
        cv2.merge(planes, self._points)
        if self.config.organised:
            return self._points
        kept: NDArray[np.float32] = self._points[good]
        return kept
