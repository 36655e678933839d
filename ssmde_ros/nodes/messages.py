"""Arrays to messages: depth images, camera_info and point clouds (REP 118, sensor_msgs conventions)."""

from __future__ import annotations

import importlib.util
from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
from std_msgs.msg import Header

from ssmde_ros.geometry import PinholeCamera

_HAS_SENSOR_MSGS_PY = importlib.util.find_spec("sensor_msgs_py") is not None


def to_bytes(values: NDArray[Any]) -> array[int]:
    """Array to a message's `data`. Anything but `array('B')` makes rclpy check byte by byte, 1000 times slower."""
    data = array("B")
    data.frombytes(np.ascontiguousarray(values).data.cast("B"))
    return data


def image_message(header: Header, values: NDArray[Any], encoding: str) -> Image:
    """`[H, W]` or `[H, W, C]` as an Image of the given encoding; the bytes are copied."""
    message = Image()
    message.header = header
    message.height, message.width = values.shape[:2]
    message.encoding = encoding
    message.is_bigendian = 0
    message.step = int(np.prod(values.shape[1:])) * values.itemsize
    message.data = to_bytes(values)
    return message


def depth_message(header: Header, depth: NDArray[np.float32], encoding: str) -> Image:
    """Depth `[H, W]` in metres as 32FC1 (REP 117 infinities kept) or as 16UC1 millimetres, where 0 is unknown."""
    if encoding == "32FC1":
        return image_message(header, depth, encoding)
    known = np.isfinite(depth) & (depth < 65.535)
    millimetres = np.where(known, depth, 0) * 1000 + 0.5
    return image_message(header, millimetres.astype(np.uint16), "16UC1")


def camera_info_message(header: Header, camera: PinholeCamera) -> CameraInfo:
    """The CameraInfo of a rectified image: no distortion, P = K."""
    message = CameraInfo()
    message.header = header
    message.width, message.height = camera.width, camera.height
    message.distortion_model = "plumb_bob"
    message.d = [0.0] * 5
    message.k = [camera.fx, 0.0, camera.cx, 0.0, camera.fy, camera.cy, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [camera.fx, 0.0, camera.cx, 0.0, 0.0, camera.fy, camera.cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return message


def cloud_fields(channels: int) -> list[PointField]:
    """x, y, z and, with four channels, the `rgb` field as PCL packs it."""
    names = ("x", "y", "z", "rgb")[:channels]
    return [
        PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
        for index, name in enumerate(names)
    ]


def cloud_message(header: Header, points: NDArray[np.float32]) -> PointCloud2:
    """Points `[H, W, c]` (organised) or `[N, c]` (sparse), c = 3 or 4, as a PointCloud2; the bytes are copied."""
    fields = cloud_fields(points.shape[-1])
    organised = points.ndim == 3
    if _HAS_SENSOR_MSGS_PY:
        from sensor_msgs_py import point_cloud2

        named = np.ascontiguousarray(points).view([(field.name, np.float32) for field in fields])
        message = point_cloud2.create_cloud(header, fields, named.reshape(-1))
    else:
        message = PointCloud2(header=header, fields=fields, point_step=4 * points.shape[-1], data=to_bytes(points))
    # Not left to create_cloud: of an organised array it takes rows for columns.
    message.height, message.width = points.shape[:2] if organised else (1, len(points))
    message.row_step = message.point_step * message.width
    # Sparse clouds hold valid points only; organised ones mark the others with NaN.
    message.is_dense = not organised
    return message
