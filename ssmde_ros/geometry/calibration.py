"""A camera as its driver describes it: raw intrinsics, distortion and the rectified view to produce."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ssmde_ros.geometry.camera import PinholeCamera

DISTORTION_MODELS = ("plumb_bob", "rational_polynomial", "equidistant")
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class CameraCalibration:
    """The content of a `sensor_msgs/CameraInfo`, for the image as it arrives (region of interest and binning applied).

    Attributes:
        width, height: size of the images, pixels.
        k: raw intrinsics, row-major 3x3, pixels.
        d: distortion coefficients of `model`; empty or zero for none.
        model: one of `DISTORTION_MODELS`; others are only accepted without distortion.
        r: rotation raw camera to rectified camera, row-major 3x3.
        p: projection of the rectified camera, row-major 3x4, pixels.

    Raises:
        ValueError: no focal length (an uncalibrated camera), values that are not finite, a model we
            cannot undo, or an impossible size.
    """

    width: int
    height: int
    k: tuple[float, ...]
    d: tuple[float, ...] = ()
    model: str = "plumb_bob"
    r: tuple[float, ...] = _IDENTITY
    p: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.k) != 9 or len(self.r) != 9 or len(self.p) not in (0, 12):
            raise ValueError("K and R need 9 values and P 12")
        if not all(math.isfinite(v) for v in (*self.k, *self.d, *self.r, *self.p)):
            raise ValueError("the calibration holds values that are not finite")
        if self.k[0] <= 0 or self.k[4] <= 0:
            raise ValueError(f"the camera is not calibrated: K has fx={self.k[0]:g} fy={self.k[4]:g}")
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"the calibration is for an image of {self.width}x{self.height}")
        if any(self.d) and self.model not in DISTORTION_MODELS:
            raise ValueError(f"unknown distortion model {self.model!r}, known are {', '.join(DISTORTION_MODELS)}")
        if any(self.d) and self.model == "equidistant" and len(self.d) != 4:
            raise ValueError(f"an equidistant lens has 4 coefficients, got {len(self.d)}")
        if any(self.d) and self.model != "equidistant" and len(self.d) not in (4, 5, 8, 12, 14):
            raise ValueError(f"a {self.model} lens has 4, 5, 8, 12 or 14 coefficients, got {len(self.d)}")

    @classmethod
    def create(
        cls,
        size: tuple[int, int],
        k: Sequence[float],
        d: Sequence[float],
        model: str,
        r: Sequence[float],
        p: Sequence[float],
        binning: tuple[int, int] = (1, 1),
        offset: tuple[int, int] = (0, 0),
        region: tuple[int, int] = (0, 0),
    ) -> CameraCalibration:
        """From the full-sensor values of a CameraInfo message, whatever subset of them is filled in.

        Args:
            size: full sensor (width, height), pixels.
            binning: pixels combined in x and y; 0 means 1.
            offset, region: region of interest (x, y) and (width, height), pixels; (0, 0) is the full sensor.
        """
        bx, by = max(binning[0], 1), max(binning[1], 1)
        width, height = region if all(region) else size
        rotation = tuple(map(float, r)) if any(r) else _IDENTITY

        def crop(m: Sequence[float], columns: int) -> tuple[float, ...]:
            m = [float(v) for v in m]
            m[2], m[columns + 2] = m[2] - offset[0], m[columns + 2] - offset[1]
            return tuple([v / bx for v in m[:columns]] + [v / by for v in m[columns : 2 * columns]] + m[2 * columns :])

        projection = crop(p, 4) if len(p) == 12 and p[0] > 0 and p[5] > 0 else ()
        return cls(
            width // bx, height // by, crop(k, 3), tuple(map(float, d)), model or "plumb_bob", rotation, projection
        )

    @classmethod
    def from_pinhole(cls, camera: PinholeCamera) -> CameraCalibration:
        """The calibration of a camera that needs no rectification."""
        k = (camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0)
        return cls(camera.width, camera.height, k)

    @property
    def needs_rectification(self) -> bool:
        """Whether image pixels move at all between the raw and the rectified view."""
        if any(self.d) or any(abs(a - b) > 1e-9 for a, b in zip(self.r, _IDENTITY, strict=True)):
            return True
        rectified = self.rectified()
        wanted = (rectified.fx, rectified.fy, rectified.cx, rectified.cy)
        return any(abs(a - b) > 1e-6 for a, b in zip(wanted, (self.k[0], self.k[4], self.k[2], self.k[5]), strict=True))

    def rectified(self) -> PinholeCamera:
        """The camera that would have taken the rectified image: P where given, K otherwise."""
        if self.p:
            return PinholeCamera(self.width, self.height, self.p[0], self.p[5], self.p[2], self.p[6])
        return PinholeCamera(self.width, self.height, self.k[0], self.k[4], self.k[2], self.k[5])

    def resized(self, width: int, height: int) -> CameraCalibration:
        """The calibration of the same images scaled to another size; pixel centers as in `PinholeCamera.resized`."""
        sx, sy = width / self.width, height / self.height

        def scaled(m: tuple[float, ...]) -> tuple[float, ...]:
            columns = len(m) // 3
            x, y, last = m[:columns], m[columns : 2 * columns], m[2 * columns :]
            x, y = tuple(v * sx for v in x), tuple(v * sy for v in y)
            # Centers lie half a pixel in from the edge.
            x, y = (*x[:2], x[2] + (sx - 1) / 2, *x[3:]), (*y[:2], y[2] + (sy - 1) / 2, *y[3:])
            return (*x, *y, *last)

        p = scaled(self.p) if self.p else ()
        return replace(self, width=width, height=height, k=scaled(self.k), p=p)
