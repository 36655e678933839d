"""Keeps the calibration that belongs to the incoming images, and says so when there is none."""

from __future__ import annotations

import threading
from typing import Any

from ssmde_ros.data.camera_info import calibration_from_message
from ssmde_ros.geometry import CameraCalibration


class CameraTracker:
    """The newest usable camera_info.

    Args:
        image_topic: where the images come from; its name tells whether they are rectified already.

    Attributes:
        problem: why there is no calibration for the newest image; empty when there is one.
    """

    def __init__(self, image_topic: str = "") -> None:
        self._image_topic = image_topic
        self._calibration: CameraCalibration | None = None
        self._content: tuple[Any, ...] | None = None
        self._refused = ""
        self._given_up: set[tuple[int, int]] = set()
        self._closed = False
        self._changed = threading.Condition()
        self.problem = "no camera_info received yet"

    def update(self, message: Any) -> None:
        """Take a CameraInfo message; one like the last costs next to nothing."""
        roi = message.roi
        content = (
            message.width, message.height, message.distortion_model, tuple(message.k), tuple(message.d),
            tuple(message.r), tuple(message.p), message.binning_x, message.binning_y,
            roi.x_offset, roi.y_offset, roi.width, roi.height,
        )  # fmt: skip
        if content == self._content:
            return
        with self._changed:
            self._content = content
            try:
                self._calibration, self._refused = calibration_from_message(message, self._image_topic), ""
                self._given_up.discard((self._calibration.width, self._calibration.height))
            except ValueError as error:
                self._calibration, self._refused = None, str(error)
            self._changed.notify_all()

    def wait_for(self, size: tuple[int, int], timeout: float) -> CameraCalibration | None:
        """The calibration for images of `size` (width, height), waiting for it once per size.

        Returns None, with `problem` set, when none comes within `timeout` seconds, and from then on at
        once until a camera_info of that size has come.
        """

        def settled() -> bool:
            return self._closed or bool(self._refused) or self._matches(size)

        with self._changed:
            if not settled() and size not in self._given_up:
                self._changed.wait_for(settled, timeout)
            if self._matches(size):
                self.problem = ""
                return self._calibration
            self._given_up.add(size)
            self.problem = self._explain(size)
            return None

    def close(self) -> None:
        """End all waiting."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _matches(self, size: tuple[int, int]) -> bool:
        return self._calibration is not None and (self._calibration.width, self._calibration.height) == size

    def _explain(self, size: tuple[int, int]) -> str:
        if self._refused:
            return f"camera_info is unusable: {self._refused}"
        if self._calibration is None:
            return "no camera_info received"
        return (
            f"camera_info is for {self._calibration.width}x{self._calibration.height}, "
            f"the images are {size[0]}x{size[1]}"
        )
