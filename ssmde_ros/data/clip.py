"""A recording in memory at working size: what training reads from.

Frames are decoded, rectified and resized once; an hour of training then touches no file. A thousand frames of
320x256 are 250 MB.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ssmde_ros.data.bags import Bag
from ssmde_ros.data.images import DecodedImage
from ssmde_ros.data.odometry import Trajectory, odometry_topics, read_trajectory
from ssmde_ros.data.sources import open_source
from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import CameraCalibration, PinholeCamera, Rectifier

TRACKING_WIDTH = 640  # pixels; matching gains little beyond


class ClipError(SsmdeError):
    """A recording that cannot be trained on; the message says why."""


@dataclass(frozen=True)
class ClipConfig:
    """Which frames of which recording, at which size.

    Attributes:
        path: bag, video or folder of images.
        width, height: working size, pixels, multiples of 32.
        first, last: slice of the frames, as in Python; 0 and None are all of them.
        image_topic, camera_info_topic: needed when a bag has several.
        odometry: topic with camera poses; "" uses none, "auto" the only one there is.
        hfov: horizontal field of view assumed where no camera_info says better, degrees; 0 refuses such recordings.

    Raises:
        ValueError: a size that is not a positive multiple of 32, or a field of view out of range.
    """

    path: Path
    width: int = 320
    height: int = 256
    first: int = 0
    last: int | None = None
    image_topic: str | None = None
    camera_info_topic: str | None = None
    odometry: str = ""
    hfov: float = 0.0

    def __post_init__(self) -> None:
        if self.width < 32 or self.height < 32 or self.width % 32 or self.height % 32:
            raise ValueError(f"working size must be positive multiples of 32, got {self.width}x{self.height}")
        if not 0 <= self.hfov < 180:
            raise ValueError(f"hfov must lie in [0, 180) degrees, got {self.hfov}")


@dataclass
class Clip:
    """Consecutive frames of one rectified camera.

    Attributes:
        name: for logs and caches.
        images: `[N, 3, H, W]` uint8 RGB.
        camera: of the working size.
        stamps: `[N]` nanoseconds.
        names: of the frames: stamps for bags, file names for folders, numbers for videos.
        tracking: grey images `[h, w]` uint8 for feature matching, and `tracking_camera`, their camera; may be empty.
        poses: `[N, 4, 4]` camera to world, metres, and `pose_known` `[N]` bool; None without odometry.
        depth: `[N, 1, H, W]` metres, truth where there is one (synthetic world), infinity for the sky. No
            self-supervised term reads it.
        moving: `[N, 1, H, W]` bool, true moving objects, where known.
    """

    name: str
    images: Tensor
    camera: PinholeCamera
    stamps: NDArray[np.int64]
    names: list[str]
    tracking: list[NDArray[np.uint8]] = field(default_factory=list)
    tracking_camera: PinholeCamera | None = None
    poses: NDArray[np.float64] | None = None
    pose_known: NDArray[np.bool_] | None = None
    depth: Tensor | None = None
    moving: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images)

    def part(self, first: int, last: int) -> Clip:
        """Frames `first` to `last`, the latter not included; tensors are views."""
        kept = slice(first, last)
        return replace(
            self,
            images=self.images[kept],
            stamps=self.stamps[kept],
            names=self.names[kept],
            tracking=self.tracking[kept],
            poses=self.poses[kept] if self.poses is not None else None,
            pose_known=self.pose_known[kept] if self.pose_known is not None else None,
            depth=self.depth[kept] if self.depth is not None else None,
            moving=self.moving[kept] if self.moving is not None else None,
        )

    def motion(self, target: int, source: int) -> NDArray[np.float64] | None:
        """`T_{t->s}` `[4, 4]`, metres, from odometry; None where it is not known."""
        if self.poses is None or self.pose_known is None or not self.pose_known[[target, source]].all():
            return None
        return np.asarray(np.linalg.inv(self.poses[source]) @ self.poses[target])


def load_clip(config: ClipConfig, tracking: bool = True) -> Clip:
    """Read a recording into memory.

    Args:
        tracking: also keep grey images for feature matching.

    Raises:
        ClipError: fewer than three frames, no calibration, a camera that changes its size, or odometry of another body.
        BagError, SourceError: see `open_source`.
    """
    with open_source(config.path, config.image_topic, config.camera_info_topic) as source:
        wanted = range(source.count)[config.first : config.last]
        frames = islice(source.frames, wanted.start, wanted.stop)
        reader = ClipReader(config, source.calibration, tracking)
        for frame in tqdm(frames, total=len(wanted), desc=f"reading {config.path.name}", unit="frame", disable=None):
            reader.add(frame)
    clip = reader.clip()
    if config.odometry:
        _attach_poses(clip, config, reader.frame_id)
    return clip


class ClipReader:
    """Rectifies and resizes frames as they come; `add` each, then ask for the `clip`."""

    def __init__(self, config: ClipConfig, calibration: CameraCalibration | None, tracking: bool) -> None:
        self.config, self.calibration, self.tracking = config, calibration, tracking
        self.images: list[Tensor] = []
        self.grey: list[NDArray[np.uint8]] = []
        self.stamps: list[int] = []
        self.names: list[str] = []
        self.frame_id = ""
        self.full: PinholeCamera | None = None
        self._rectify: Rectifier | None = None

    def add(self, frame: DecodedImage) -> None:
        height, width = frame.image.shape[:2]
        if self.full is None:
            self.full, self.frame_id = self._camera(width, height), frame.frame_id
        if (width, height) != (self.full.width, self.full.height):
            raise ClipError(
                f"{self.config.path}: frame {len(self.images)} is {width}x{height}, the camera is "
                f"{self.full.width}x{self.full.height}"
            )
        image = self._rectify(frame.image) if self._rectify else frame.image
        small = cv2.resize(image, (self.config.width, self.config.height), interpolation=cv2.INTER_AREA)
        self.images.append(torch.from_numpy(small).permute(2, 0, 1).contiguous())
        self.stamps.append(frame.stamp)
        self.names.append(frame.name)
        if self.tracking:
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            scale = min(1.0, TRACKING_WIDTH / width)
            size = (round(width * scale), round(height * scale))
            self.grey.append(np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8))

    def _camera(self, width: int, height: int) -> PinholeCamera:
        known = self.calibration
        if known is not None and (known.width, known.height) == (width, height):
            self._rectify = Rectifier(known) if known.needs_rectification else None
            return known.rectified()
        if not self.config.hfov:
            why = (
                "has no camera_info" if known is None else f"has a camera_info for {known.width}x{known.height} images"
            )
            raise ClipError(f"{self.config.path} {why}; give the field of view with hfov, degrees")
        return PinholeCamera.from_hfov(width, height, np.radians(self.config.hfov))

    def clip(self) -> Clip:
        if len(self.images) < 3 or self.full is None:
            raise ClipError(
                f"{self.config.path} gives {len(self.images)} frames; training needs at least three in a row"
            )
        return Clip(
            self.config.path.stem,
            torch.stack(self.images),
            self.full.resized(self.config.width, self.config.height),
            np.array(self.stamps, np.int64),
            self.names,
            self.grey,
            self.full.resized(self.grey[0].shape[1], self.grey[0].shape[0]) if self.grey else None,
        )


def _attach_poses(clip: Clip, config: ClipConfig, frame_id: str) -> None:
    with Bag(config.path) as bag:
        topics = odometry_topics(bag)
        if config.odometry == "auto" and len(topics) != 1:
            names = ", ".join(t.name for t in topics) or "none"
            raise ClipError(f"bag {config.path}: name the odometry topic; candidates are {names}")
        topic = topics[0].name if config.odometry == "auto" else config.odometry
        trajectory = read_trajectory(bag, topic)
    _check_body(trajectory, f"bag {config.path}: {topic}", frame_id)
    clip.poses, clip.pose_known = trajectory.at(clip.stamps)
    if not clip.pose_known.any():
        raise ClipError(f"bag {config.path}: {topic} covers none of the images' times")


def _check_body(trajectory: Trajectory, where: str, frame_id: str) -> None:
    body = trajectory.frame_id
    if body and frame_id and body.strip("/") != frame_id.strip("/"):
        raise ClipError(
            f"{where} tells where {body!r} is, the images come from {frame_id!r}; "
            "odometry must be that of the camera's optical frame"
        )
