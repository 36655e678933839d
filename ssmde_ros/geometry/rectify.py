"""Rectification through cached OpenCV maps."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.geometry.calibration import CameraCalibration
from ssmde_ros.geometry.camera import PinholeCamera


class Rectifier:
    """Turns raw images of one camera into rectified ones.

    Args:
        calibration: of the raw images.
        camera: of the rectified ones, of any size; the calibration's own when None.

    Attributes:
        unknown: `[H, W]` uint8, 1 where the rectified view looks past the edge of the raw image;
            None when there is no such pixel.
    """

    def __init__(self, calibration: CameraCalibration, camera: PinholeCamera | None = None) -> None:
        camera = camera or calibration.rectified()
        k = np.array(calibration.k).reshape(3, 3)
        r = np.array(calibration.r).reshape(3, 3)
        target = np.array(camera.rows())
        d = np.array(calibration.d if any(calibration.d) else [0.0] * 4)
        build = (
            cv2.fisheye.initUndistortRectifyMap if calibration.model == "equidistant" else cv2.initUndistortRectifyMap
        )
        self._maps = build(k, d, r, target, (camera.width, camera.height), cv2.CV_16SC2)
        self._image: NDArray[np.uint8] | None = None
        inside = cv2.remap(np.ones((calibration.height, calibration.width), np.uint8), *self._maps, cv2.INTER_NEAREST)
        self.unknown = None if inside.all() else 1 - inside

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Rectified copy `[h, w, 3]` of a raw image `[H, W, 3]` of the calibrated size; valid until the next call."""
        self._image = cv2.remap(image, *self._maps, cv2.INTER_LINEAR, dst=self._image)
        return self._image
