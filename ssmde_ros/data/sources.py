"""One way to read pictures from whatever people have: a bag, a video, a folder, a single image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.data.bags import Bag
from ssmde_ros.data.images import DecodedImage
from ssmde_ros.data.salvage import STORAGE_SUFFIXES
from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import CameraCalibration

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


class SourceError(SsmdeError):
    """An input that holds no readable pictures."""


@dataclass(frozen=True)
class FrameSource:
    """Pictures in order.

    Attributes:
        count: how many there are (for a video: what its header says).
        frames: iterate once.
        calibration: of the camera, None when the input does not say.
    """

    count: int
    frames: Iterator[DecodedImage]
    calibration: CameraCalibration | None


def is_bag(path: Path) -> bool:
    """Whether a path is read as a bag, and not as a video, a folder of images or an image."""
    if path.is_dir():
        return any(file.name == "metadata.yaml" or file.name.endswith(STORAGE_SUFFIXES) for file in path.iterdir())
    return path.suffix.lower() not in (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)


@contextmanager
def open_source(
    path: Path, image_topic: str | None = None, camera_info_topic: str | None = None, salvage: bool = False
) -> Iterator[FrameSource]:
    """Open a bag (folder or file), a video, a folder of images or one image.

    Args:
        salvage: read a damaged bag around its damage instead of refusing it.

    Raises:
        SourceError: nothing there, or nothing readable.
        BagError: see `Bag`.
    """
    if not path.exists():
        raise SourceError(f"input {path} does not exist")
    suffix = path.suffix.lower()
    if path.is_dir() and not is_bag(path):
        yield _folder(path)
    elif suffix in IMAGE_SUFFIXES:
        yield FrameSource(1, _images([path]), None)
    elif suffix in VIDEO_SUFFIXES:
        with _opened_video(path) as capture:
            yield FrameSource(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), _video(path, capture), None)
    else:
        with Bag(path, salvage=salvage) as bag:
            topic = bag.choose("image", image_topic, "--image-topic")
            if topic is None:
                raise SourceError(f"bag {path} has no image topic")
            info = bag.camera_info_for(topic, camera_info_topic)
            calibration = bag.calibration(info, topic.name) if info else None
            yield FrameSource(topic.count, bag.images(topic), calibration)


def _folder(path: Path) -> FrameSource:
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise SourceError(f"folder {path} holds neither a bag (metadata.yaml) nor images ({' '.join(IMAGE_SUFFIXES)})")
    return FrameSource(len(files), _images(files), None)


def _images(files: list[Path]) -> Iterator[DecodedImage]:
    for number, file in enumerate(files):
        image = cv2.imread(str(file), cv2.IMREAD_COLOR)
        if image is None:
            raise SourceError(f"image {file} cannot be read")
        yield DecodedImage(number, "", _rgb(image), file.stem)


@contextmanager
def _opened_video(path: Path) -> Iterator[cv2.VideoCapture]:
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise SourceError(f"video {path} cannot be opened; is it whole?")
        yield capture
    finally:
        capture.release()


def _video(path: Path, capture: cv2.VideoCapture) -> Iterator[DecodedImage]:
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    number = 0
    while True:
        good, image = capture.read()
        if not good:
            break
        yield DecodedImage(round(number / rate * 1e9), "", _rgb(image), f"{number:06d}")
        number += 1
    if number == 0:
        raise SourceError(f"video {path} holds no readable frame")


def _rgb(image: NDArray[np.generic]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
