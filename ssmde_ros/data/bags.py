"""Bags of either ROS generation through `rosbags`: topics, pictures, depth and calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from apsw import Error as SqliteError
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.typesys import Stores, get_typestore

from ssmde_ros.data.camera_info import calibration_from_message
from ssmde_ros.data.images import (
    DecodedImage,
    ImageFormatError,
    decode_compressed,
    decode_depth,
    decode_image,
    is_depth_encoding,
)
from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import CameraCalibration

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"


class BagError(SsmdeError):
    """A bag that cannot be used; the message names the file or topic and what to do."""


@dataclass(frozen=True)
class Topic:
    """One topic of a bag.

    Attributes:
        kind: "image", "depth", "camera_info" or "other".
        count: number of messages.
        rate: messages by the length of the whole bag, Hz.
    """

    name: str
    msgtype: str
    kind: str
    count: int
    rate: float


class Bag:
    """A recording, opened for reading. Use as a context manager.

    Args:
        path: a rosbag2 folder, one of its files, or a ROS 1 .bag file.

    Raises:
        BagError: nothing there, or nothing readable.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            raise BagError(f"bag {path} does not exist")
        folder = path.parent if path.is_file() and (path.parent / "metadata.yaml").is_file() else path
        try:
            self._reader = AnyReader([folder], default_typestore=get_typestore(Stores.ROS2_HUMBLE))
            self._reader.open()
        except (AnyReaderError, SqliteError, OSError, ValueError, KeyError) as error:
            raise BagError(f"bag {path} cannot be opened ({error}); is it whole, with its metadata.yaml?") from error
        self.topics = self._describe()

    def __enter__(self) -> Bag:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    @property
    def duration(self) -> float:
        """Seconds from the first to the last message."""
        return self._reader.duration / 1e9 if self._reader.message_count else 0.0

    def _describe(self) -> list[Topic]:
        counts: Counter[tuple[str, str]] = Counter()
        for connection in self._reader.connections:
            counts[connection.topic, connection.msgtype] += connection.msgcount
        return [
            Topic(
                name,
                msgtype,
                self._kind(name, msgtype),
                count,
                max(count - 1, 0) / self.duration if self.duration else 0.0,
            )
            for (name, msgtype), count in sorted(counts.items())
        ]

    def _kind(self, name: str, msgtype: str) -> str:
        if msgtype == CAMERA_INFO:
            return "camera_info"
        if msgtype not in (IMAGE, COMPRESSED):
            return "other"
        # Depth and pictures share a type; only the first message tells them apart.
        first = next(self.messages(name), None)
        if msgtype == COMPRESSED:
            return "other" if first is not None and "compressedDepth" in first[1].format else "image"
        return "depth" if first is not None and is_depth_encoding(first[1].encoding) else "image"

    def messages(self, topic: str) -> Iterator[tuple[int, Any]]:
        """Recording time (nanoseconds) and message, in order of recording.

        Raises:
            BagError: no such topic, or the bag breaks off while reading.
        """
        connections = [c for c in self._reader.connections if c.topic == topic]
        if not connections:
            known = ", ".join(sorted({c.topic for c in self._reader.connections})) or "none"
            raise BagError(f"bag {self.path} has no topic {topic}; it has {known}")
        stream = self._reader.messages(connections)
        while True:
            try:
                connection, stamp, raw = next(stream)
                message = self._reader.deserialize(raw, connection.msgtype)
            except StopIteration:
                return
            # rosbags lets the storage libraries' own errors through; whatever they say, this bag ends here.
            except Exception as error:
                raise BagError(f"bag {self.path} is damaged in {topic}: {type(error).__name__} {error}") from error
            yield stamp, message

    def choose(self, kind: str, wanted: str | None, flag: str) -> Topic | None:
        """The topic of a kind: the one asked for, or the only candidate, or None when there is none.

        Raises:
            BagError: the wanted topic is missing or of another kind, or there are several candidates.
        """
        candidates = [topic for topic in self.topics if topic.kind == kind and topic.count]
        if wanted is not None:
            for topic in candidates:
                if topic.name == wanted:
                    return topic
            names = ", ".join(t.name for t in candidates) or "none"
            raise BagError(f"bag {self.path} has no {kind} topic {wanted}; of that kind it has {names}")
        if len(candidates) > 1:
            names = ", ".join(topic.name for topic in candidates)
            raise BagError(f"bag {self.path} has several {kind} topics, choose one with {flag}: {names}")
        return candidates[0] if candidates else None

    def images(self, topic: Topic) -> Iterator[DecodedImage]:
        """Pictures of an image topic, decoded. Raises BagError naming the frame that cannot be."""
        for number, (_, message) in enumerate(self.messages(topic.name)):
            try:
                image = decode_compressed(message) if topic.msgtype == COMPRESSED else decode_image(message)
            except ImageFormatError as error:
                raise BagError(f"bag {self.path}, {topic.name}, frame {number}: {error}") from error
            stamp = header_stamp(message)
            yield DecodedImage(stamp, message.header.frame_id, image, str(stamp))

    def depths(self, topic: str) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Stamps (nanoseconds) and depth maps `[H, W]` in metres of a depth topic."""
        for number, (_, message) in enumerate(self.messages(topic)):
            try:
                yield header_stamp(message), decode_depth(message)
            except (ImageFormatError, AttributeError) as error:
                raise BagError(f"bag {self.path}, {topic}, frame {number}: {error}") from error

    def calibration(self, topic: str, image_topic: str = "") -> CameraCalibration:
        """The first calibration on a camera_info topic, for the images of `image_topic`. Raises BagError when it makes no camera."""
        for _, message in self.messages(topic):
            try:
                return calibration_from_message(message, image_topic)
            except (ValueError, AttributeError) as error:
                raise BagError(f"bag {self.path}, {topic}: {error}") from error
        raise BagError(f"bag {self.path}: {topic} is empty")

    def camera_info_for(self, image: Topic, wanted: str | None = None) -> str | None:
        """The camera_info topic of an image: the one asked for, the sibling in its namespace, or the only one."""
        if wanted is None:
            parts = image.name.split("/")
            siblings = {"/".join([*parts[:end], "camera_info"]) for end in range(1, len(parts))}
            near = [t.name for t in self.topics if t.kind == "camera_info" and t.count and t.name in siblings]
            if near:
                return max(near, key=len)
        found = self.choose("camera_info", wanted, "--camera-info-topic")
        return found.name if found else None


def header_stamp(message: Any) -> int:
    """The header stamp of a message in nanoseconds."""
    stamp = message.header.stamp
    nanoseconds = getattr(stamp, "nanosec", None)
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec if nanoseconds is not None else stamp.nsec)
