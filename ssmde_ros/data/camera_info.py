"""CameraInfo messages, of ROS 1 or ROS 2, to calibrations."""

from __future__ import annotations

from typing import Any

from ssmde_ros.geometry import CameraCalibration


def is_rectified_topic(image_topic: str) -> bool:
    """Whether images are rectified already, by image_pipeline's convention for names: `image_rect`, `image_rect_color` ..."""
    return any(part.startswith("image_rect") for part in image_topic.split("/"))


def calibration_from_message(message: Any, image_topic: str = "") -> CameraCalibration:
    """The calibration in a CameraInfo message (fields K, D, R, P in either case).

    Args:
        message: of either ROS generation.
        image_topic: what it belongs to. The camera_info of a rectified image still tells how the raw one was
            distorted; then only its rectified camera is kept.

    Raises:
        ValueError: an uncalibrated camera (all-zero K) or values that make no camera; see `CameraCalibration`.
    """

    def field(name: str) -> list[float]:
        values = getattr(message, name) if hasattr(message, name) else getattr(message, name.upper())
        return [float(v) for v in values]

    region = message.roi
    calibration = CameraCalibration.create(
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
    return CameraCalibration.from_pinhole(calibration.rectified()) if is_rectified_topic(image_topic) else calibration
