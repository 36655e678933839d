"""From a camera's image to what the network takes: rectified and shrunk, reading each pixel about once."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.geometry import CameraCalibration, Rectifier


class ImageFitter:
    """Images of one camera at another size, and rectified where there is a calibration to do it by.

    A bilinear kernel reads two by two pixels, so it may shrink to half without skipping any. What has to
    become smaller still is halved first, by averaging, which is quick. Then one `remap` undoes the lens and
    shrinks in the same step.

    Args:
        source: (width, height) of the images.
        size: (width, height) of the result.
        calibration: of the images, when they are to be rectified.
    """

    def __init__(
        self, source: tuple[int, int], size: tuple[int, int], calibration: CameraCalibration | None = None
    ) -> None:
        self.source, self.size, self.calibration = source, size, calibration
        self._halved = source
        while self._halved[0] > 2 * size[0] or self._halved[1] > 2 * size[1]:
            # One axis may be short already, of a panorama squeezed into a square: only the other is halved.
            self._halved = tuple(  # type: ignore[assignment]
                (have + 1) // 2 if have > 2 * want else have for have, want in zip(self._halved, size, strict=True)
            )
        self._rectifier = None
        if calibration is not None:
            self._rectifier = Rectifier(calibration.resized(*self._halved), calibration.rectified().resized(*size))
        self._half: NDArray[np.uint8] | None = None
        self._small: NDArray[np.uint8] | None = None

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """`[h, w, 3]` from an image `[H, W, 3]` of the source's size; valid until the next call."""
        if self._halved != self.source:
            self._half = cv2.resize(image, self._halved, dst=self._half, interpolation=cv2.INTER_AREA)
            image = self._half
        if self._rectifier is not None:
            return self._rectifier(image)
        if self._halved == self.size:
            return image
        self._small = cv2.resize(image, self.size, dst=self._small, interpolation=cv2.INTER_LINEAR)
        return self._small
