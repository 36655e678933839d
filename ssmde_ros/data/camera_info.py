"""CameraInfo messages, of ROS 1 or ROS 2, to calibrations."""

from __future__ import annotations

from typing import Any

from ssmde_ros.geometry import CameraCalibration


def calibration_from_message(message: Any) -> CameraCalibration:
    """The calibration in a CameraInfo message (fields K, D, R, P in either case).

    Raises:
        ValueError: an uncalibrated camera (all-zero K) or values that make no camera; see `CameraCalibration`.
    """

    def field(name: str) -> list[float]:
        values = getattr(message, name) if hasattr(message, name) else getattr(message, name.upper())
        return [float(v) for v in values]

    region = message.roi
    return CameraCalibration.create(
        (message.width, message.height),
        field("k"),
        field("d"),
        message.distortion_model,
        field("r"),
        field("p"),
        (message.binning_x, message.binning_y),
        (region.x_offset, region.y_offset),
        (region.width, region.height),
    )
