"""Bags of either ROS generation through `rosbags`: topics, pictures, depth and calibration."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader
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
from ssmde_ros.data.raw_files import Damage
from ssmde_ros.data.salvage import SalvagedBag
from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import CameraCalibration

_log = logging.getLogger(__name__)

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
        salvage: read what is whole of a damaged bag, and say once, at WARN, what is not; `damage` has the counts.
            Without it a damaged bag raises: a score over half of the frames must not look like a score over all.

    Raises:
        BagError: nothing there, or nothing readable.
    """

    def __init__(self, path: Path, salvage: bool = False) -> None:
        self.path, self.salvage, self.damage = path, salvage, Damage()
        self._salvaged: SalvagedBag | None = None
        self._reader: AnyReader | None = None
        if not path.exists():
            raise BagError(f"bag {path} does not exist")
        self._root = path.parent if path.is_file() and (path.parent / "metadata.yaml").is_file() else path
        try:
            self._reader = AnyReader([self._root], default_typestore=get_typestore(Stores.ROS2_HUMBLE))
            self._reader.open()
        # rosbags lets the storage libraries' own errors through, and whatever a parser says over garbage.
        except Exception as error:
            self._reader = None
            if not salvage:
                raise BagError(
                    f"bag {path} cannot be opened ({error}); is it whole, with its metadata.yaml?"
                ) from error
            self._begin_salvage(f"cannot be opened ({' '.join(str(error).split())})")
        self.topics = self._describe()

    def _begin_salvage(self, why: str) -> SalvagedBag:
        """Read file by file from now on. Raises BagError when nothing is left to read."""
        if self._salvaged is not None:
            return self._salvaged
        salvaged = SalvagedBag(self._root, self.damage)
        if not salvaged.counts:
            salvaged.close()
            raise BagError(f"bag {self.path} {why}, and no message in it can be salvaged")
        _log.warning("bag %s %s; reading what is whole: %s messages", self.path, why, sum(salvaged.counts.values()))
        self._salvaged = salvaged
        return salvaged

    def __enter__(self) -> Bag:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._reader.close()
        if self._salvaged is not None:
            self._salvaged.close()

    @property
    def packed(self) -> bool:
        """Whether whole files are compressed: each opening unpacks them all."""
        readers = self._reader.readers if self._reader is not None else ()
        return any(getattr(reader, "compression_mode", None) == "file" for reader in readers)

    @property
    def start(self) -> int:
        """Recording time of the first message, nanoseconds."""
        return self._reader.start_time if self._reader is not None else self._salvaged.first  # type: ignore[union-attr]

    @property
    def duration(self) -> float:
        """Seconds from the first to the last message."""
        if self._reader is not None:
            return self._reader.duration / 1e9 if self._reader.message_count else 0.0
        assert self._salvaged is not None
        return (self._salvaged.last - self._salvaged.first) / 1e9

    def _counts(self) -> dict[tuple[str, str], int]:
        if self._reader is None:
            assert self._salvaged is not None
            return self._salvaged.counts
        counts: Counter[tuple[str, str]] = Counter()
        for connection in self._reader.connections:
            counts[connection.topic, connection.msgtype] += connection.msgcount
        return counts

    def _describe(self) -> list[Topic]:
        return [
            Topic(
                name,
                msgtype,
                self._kind(name, msgtype),
                count,
                max(count - 1, 0) / self.duration if self.duration else 0.0,
            )
            for (name, msgtype), count in sorted(self._counts().items())
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

    def messages(self, topic: str, start: int | None = None, stop: int | None = None) -> Iterator[tuple[int, Any]]:
        """Recording time (nanoseconds) and message, in order of recording.

        Args:
            start, stop: recording times, nanoseconds, of the first message and of the first that is not wanted.

        Raises:
            BagError: no such topic, or the bag breaks off while reading and is not to be salvaged.
        """
        known = sorted({name for name, _ in self._counts()})
        if topic not in known:
            raise BagError(f"bag {self.path} has no topic {topic}; it has {', '.join(known) or 'none'}")
        reached, read = -1, 0
        if self._salvaged is None:
            assert self._reader is not None
            connections = [c for c in self._reader.connections if c.topic == topic]
            stream = self._reader.messages(connections, start, stop)
            while True:
                try:
                    connection, stamp, raw = next(stream)
                    message = self._reader.deserialize(raw, connection.msgtype)
                except StopIteration:
                    missing = sum(c.msgcount for c in connections) - read
                    if start is None and stop is None and missing > 0:  # garbage may end a chunk without a sound
                        self.damage.lost += missing
                        self.damage.note(f"{topic} has {read} of the messages its index promises")
                    return
                # rosbags lets the storage libraries' own errors through; whatever they say, this reader ends here.
                except Exception as error:
                    why = f"is damaged in {topic}: {type(error).__name__} {error}"
                    if not self.salvage:
                        raise BagError(f"bag {self.path} {why}") from error
                    break
                reached, read = stamp, read + 1
                yield stamp, message
            self._begin_salvage(why)
        assert self._salvaged is not None
        for stamp, message in self._salvaged.messages(topic, start, stop):
            if stamp > reached:
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

    def images(self, topic: Topic, start: int | None = None, stop: int | None = None) -> Iterator[DecodedImage]:
        """Pictures of an image topic, decoded; `start` and `stop` as for `messages`.

        Raises:
            BagError: naming the frame that cannot be decoded; when salvaging it is skipped and counted.
        """
        for number, (_, message) in enumerate(self.messages(topic.name, start, stop)):
            try:
                image = decode_compressed(message) if topic.msgtype == COMPRESSED else decode_image(message)
            except ImageFormatError as error:
                if not self.salvage:
                    raise BagError(f"bag {self.path}, {topic.name}, frame {number}: {error}") from error
                self.damage.lost += 1
                self.damage.note(f"{topic.name} has frames that cannot be decoded ({error})")
                continue
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
