"""A camera's recording as a rosbag2, through `rosbags`."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import StoragePlugin, Writer, WriterError
from rosbags.typesys import Stores, get_typestore

from ssmde_ros.data.bags import CAMERA_INFO, COMPRESSED, BagError
from ssmde_ros.geometry import PinholeCamera

IMAGE_TOPIC, INFO_TOPIC = "/camera/image_rect/compressed", "/camera/camera_info"

_START = 1_000_000_000  # nanoseconds; a stamp of zero means "now" to some
_QUALITY = 95


class CameraBagWriter:
    """Writes JPEG images and their camera_info. Use as a context manager.

    Args:
        path: folder to write; must not exist.
        frame_id: optical frame.

    Raises:
        BagError: it exists, or cannot be written.
    """

    def __init__(self, path: Path, frame_id: str) -> None:
        self.path, self.frame_id, self._store = path, frame_id, get_typestore(Stores.ROS2_HUMBLE)
        try:
            self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
        except (WriterError, OSError) as error:
            raise BagError(f"bag {path} cannot be written: {error}") from error
        self._images = self._writer.add_connection(IMAGE_TOPIC, COMPRESSED, typestore=self._store)
        self._infos = self._writer.add_connection(INFO_TOPIC, CAMERA_INFO, typestore=self._store)

    def __enter__(self) -> CameraBagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, image: NDArray[np.uint8], camera: PinholeCamera, stamp: int) -> None:
        """One frame.

        Args:
            image: `[H, W, 3]` RGB, rectified.
            camera: its camera.
            stamp: nanoseconds from the beginning of the recording.
        """
        stamp += _START
        good, code = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        if not good:
            raise BagError(f"frame of {camera.width}x{camera.height} pixels cannot be encoded as JPEG")
        head = self._header(stamp)
        types = self._store.types
        packed = types[COMPRESSED](header=head, format="jpeg", data=np.asarray(code, np.uint8).ravel())
        region = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        k = [camera.fx, 0, camera.cx, 0, camera.fy, camera.cy, 0, 0, 1]
        p = [camera.fx, 0, camera.cx, 0, 0, camera.fy, camera.cy, 0, 0, 0, 1, 0]
        info = types[CAMERA_INFO](
            header=head, height=camera.height, width=camera.width, distortion_model="plumb_bob", d=np.zeros(5),
            k=np.array(k, float), r=np.eye(3).ravel(), p=np.array(p, float), binning_x=0, binning_y=0, roi=region,
        )  # fmt: skip
        try:
            self._writer.write(self._infos, stamp, self._store.serialize_cdr(info, CAMERA_INFO))
            self._writer.write(self._images, stamp, self._store.serialize_cdr(packed, COMPRESSED))
        except OSError as error:
            raise BagError(f"bag {self.path} cannot be written: {error}") from error

    def _header(self, stamp: int) -> Any:
        types = self._store.types
        time = types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
        return types["std_msgs/msg/Header"](stamp=time, frame_id=self.frame_id)
