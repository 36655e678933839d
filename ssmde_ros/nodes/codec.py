"""Image messages to arrays: through cv_bridge where it is installed and right, otherwise through `data.images`.

The choice is made once per process and logged by whoever asks for it.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ssmde_ros.data.images import ImageFormatError, decode_compressed, decode_image


class ImageCodec(Protocol):
    """Decodes messages to RGB `[H, W, 3]` uint8; raises ImageFormatError with the reason when it cannot."""

    name: str

    def image(self, message: Any) -> NDArray[np.uint8]:
        """Of a `sensor_msgs/Image`."""
        ...

    def compressed(self, message: Any) -> NDArray[np.uint8]:
        """Of a `sensor_msgs/CompressedImage`."""
        ...


class RosbagsCodec:
    """Our own decoding on top of rosbags-image and OpenCV."""

    name = "rosbags-image"

    def image(self, message: Any) -> NDArray[np.uint8]:
        """See `ImageCodec`."""
        return decode_image(message)

    def compressed(self, message: Any) -> NDArray[np.uint8]:
        """See `ImageCodec`."""
        return decode_compressed(message)


class CvBridgeCodec:
    """cv_bridge of a ROS 2 installation."""

    name = "cv_bridge"

    def __init__(self) -> None:
        from cv_bridge import CvBridge

        self._bridge = CvBridge()

    def image(self, message: Any) -> NDArray[np.uint8]:
        """See `ImageCodec`."""
        try:
            return np.ascontiguousarray(self._bridge.imgmsg_to_cv2(message, "rgb8"), np.uint8)
        # cv_bridge raises whatever its numpy, OpenCV and Boost layers raise; all of it means "not this message".
        except Exception as error:
            raise ImageFormatError(f"cv_bridge cannot decode encoding {message.encoding!r}: {error}") from error

    def compressed(self, message: Any) -> NDArray[np.uint8]:
        """See `ImageCodec`. OpenCV itself: cv_bridge takes grey pictures for color ones and turns rotated ones."""
        return decode_compressed(message)


def disagreement(codec: ImageCodec, reference: ImageCodec) -> str | None:
    """The first encoding that a codec decodes differently from the reference, on a small padded image; None if none."""
    rng = np.random.default_rng(0)
    for encoding, bytes_per_pixel in (("rgb8", 3), ("bgra8", 4), ("mono8", 1), ("mono16", 2), ("yuv422_yuy2", 2)):
        for big in (0, 1):
            step = 4 * bytes_per_pixel + 4
            data = rng.integers(0, 256, 4 * step, dtype=np.uint8)
            message = SimpleNamespace(
                height=4, width=4, encoding=encoding, is_bigendian=big, step=step, data=data.tobytes()
            )
            try:
                same = np.array_equal(codec.image(message), reference.image(message))
            except ImageFormatError:
                same = False
            if not same:
                return f"{encoding}{' big-endian' if big else ''}"
    return None


@cache
def choose_codec() -> tuple[ImageCodec, str | None]:
    """The codec of this process, and why cv_bridge was passed over although it is installed (None otherwise)."""
    ours = RosbagsCodec()
    if importlib.util.find_spec("cv_bridge") is None:
        return ours, None
    try:
        bridge = CvBridgeCodec()
    except ImportError as error:
        return ours, f"cv_bridge is installed but does not import: {error}"
    wrong = disagreement(bridge, ours)
    if wrong:
        return ours, f"the installed cv_bridge decodes {wrong} images wrongly (is it the ROS 1 port from PyPI?)"
    return bridge, None
