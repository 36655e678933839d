"""ROS image messages to arrays, without ROS: works on rclpy's and on rosbags' messages alike.

Color conversion is `rosbags-image`'s; what it leaves to the caller (row padding, length checks, rounding
of 16-bit images) is done here.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray
from rosbags.image.image import convert_color

from ssmde_ros.errors import SsmdeError


class ImageMessage(Protocol):
    """The fields of `sensor_msgs/Image`."""

    height: int
    width: int
    encoding: str
    is_bigendian: int
    step: int
    data: Any


class ImageFormatError(SsmdeError):
    """An image message that cannot be decoded; the message says which field is wrong."""


_COLOR_CHANNELS = {
    "rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "8UC1": 1, "8UC3": 3, "8UC4": 4,
    "rgb16": 3, "bgr16": 3, "rgba16": 4, "bgra16": 4, "mono16": 1, "16UC1": 1,
    "uyvy": 2, "yuv422": 2, "yuyv": 2, "yuv422_yuy2": 2,
    **{f"bayer_{order}{bits}": 1 for order in ("rggb", "bggr", "gbrg", "grbg") for bits in (8, 16)},
}  # fmt: skip
# OpenCV's generic names, in the meaning cv_bridge gives them.
_ALIASES = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8", "16UC1": "mono16"}
_DEPTH_TYPES: dict[str, DTypeLike] = {"16UC1": np.uint16, "mono16": np.uint16, "32FC1": np.float32}


def pixels(message: ImageMessage, dtype: DTypeLike, channels: int) -> NDArray[Any]:
    """The pixel values of an image message: a view, unless the byte order has to be turned.

    Returns:
        `[H, W]` for one channel, otherwise `[H, W, C]`, native byte order, padding left out.

    Raises:
        ImageFormatError: zero size, a step too short for the width, or fewer bytes than announced.
    """
    height, width, step = message.height, message.width, message.step
    item = np.dtype(dtype).itemsize
    row = width * channels * item
    if height <= 0 or width <= 0:
        raise ImageFormatError(f"image of {width}x{height} pixels")
    if step < row:
        raise ImageFormatError(f"image step is {step} bytes, {width} pixels of {message.encoding} need {row}")
    data = np.frombuffer(message.data, np.uint8)
    # The last row may come without its padding.
    needed = step * (height - 1) + row
    if len(data) < needed:
        raise ImageFormatError(f"image data is truncated: {len(data)} bytes of {needed}")
    lines = np.lib.stride_tricks.as_strided(data, (height, row), (step, 1), writeable=False)
    shape = (height, width) if channels == 1 else (height, width, channels)
    values = (lines if lines.flags.c_contiguous else np.ascontiguousarray(lines)).view(dtype).reshape(shape)
    if item > 1 and bool(message.is_bigendian) != (sys.byteorder == "big"):
        values = values.byteswap()
    return values


def decode_image(message: ImageMessage) -> NDArray[np.uint8]:
    """RGB `[H, W, 3]` uint8 of a `sensor_msgs/Image`; a view of the message for rgb8.

    Raises:
        ImageFormatError: an encoding that is not a picture, or inconsistent sizes.
    """
    encoding = message.encoding
    channels = _COLOR_CHANNELS.get(encoding)
    if channels is None:
        raise ImageFormatError(f"unknown image encoding {encoding!r}; known are {', '.join(_COLOR_CHANNELS)}")
    if channels == 2 and message.width % 2:
        raise ImageFormatError(f"a {encoding} image of odd width {message.width} has no whole number of pixel pairs")
    encoding = _ALIASES.get(encoding, encoding)
    deep = encoding.endswith("16")
    image = pixels(message, np.uint16 if deep else np.uint8, channels)
    if deep:
        # Rounded as cv_bridge does; rosbags-image would truncate.
        image = cv2.convertScaleAbs(convert_color(image, encoding, "rgb16"), alpha=255 / 65535)
    else:
        image = convert_color(image, encoding, "rgb8")
    return np.asarray(image, np.uint8)


def decode_compressed(message: Any) -> NDArray[np.uint8]:
    """RGB `[H, W, 3]` uint8 of a `sensor_msgs/CompressedImage` (JPEG, PNG and whatever OpenCV reads).

    Raises:
        ImageFormatError: not a picture OpenCV can read, or a compressed depth image.
    """
    if "compressedDepth" in message.format:
        raise ImageFormatError("a compressedDepth image is not a picture; subscribe to the color image")
    data = np.frombuffer(message.data, np.uint8)
    # Orientation tags are ignored: camera_info speaks of the pixels as they are stored.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(data, flags) if len(data) else None
    except cv2.error:
        image = None
    if image is None:
        raise ImageFormatError(f"compressed image ({message.format!r}, {len(data)} bytes) cannot be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), np.uint8)


def decode_depth(message: ImageMessage) -> NDArray[np.float32]:
    """Depth `[H, W]` in metres (REP 118); 0 or not finite where unknown.

    Raises:
        ImageFormatError: neither 16UC1 (millimetres) nor 32FC1 (metres), or inconsistent sizes.
    """
    dtype = _DEPTH_TYPES.get(message.encoding)
    if dtype is None:
        raise ImageFormatError(f"{message.encoding!r} is not a depth encoding (16UC1 millimetres or 32FC1 metres)")
    values = pixels(message, dtype, 1)
    return values.astype(np.float32) * (1e-3 if dtype is np.uint16 else 1.0)


def is_depth_encoding(encoding: str) -> bool:
    """Whether an image topic with this encoding carries depth and not a picture."""
    return encoding in ("16UC1", "32FC1")


@dataclass
class DecodedImage:
    """A picture with its header.

    Attributes:
        stamp: nanoseconds since the epoch.
        frame_id: optical frame; empty where the source has none.
        image: `[H, W, 3]` RGB uint8.
        name: for a file made from it: the stamp, the image's own name, or the number of the frame.
    """

    stamp: int
    frame_id: str
    image: NDArray[np.uint8]
    name: str
