"""Camera poses from an odometry topic, at the times of the images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.data.bags import Bag, BagError, Topic, header_stamp

Floats = NDArray[np.float64]

ODOMETRY = "nav_msgs/msg/Odometry"
POSE = "geometry_msgs/msg/PoseStamped"
TRANSFORM = "geometry_msgs/msg/TransformStamped"


@dataclass(frozen=True)
class Trajectory:
    """Poses over time.

    Attributes:
        stamps: `[N]` nanoseconds, rising.
        poses: `[N, 4, 4]` body to world, metres.
        frame_id: the body: "" where the messages do not say.
    """

    stamps: NDArray[np.int64]
    poses: Floats
    frame_id: str

    def at(self, stamps: NDArray[np.int64], reach: float = 0.1) -> tuple[Floats, NDArray[np.bool_]]:
        """Poses `[M, 4, 4]` at other times, and which of them are known `[M]`.

        Positions are interpolated linearly, rotations along the shortest arc. A time that is farther than `reach`
        seconds from its nearest neighbour, or outside the recording, is not known.
        """
        last = len(self.stamps) - 1
        after = np.searchsorted(self.stamps, stamps).clip(1, last)
        poses = np.empty((len(stamps), 4, 4))
        for i, (stamp, high) in enumerate(zip(stamps, after, strict=True)):
            span = float(self.stamps[high] - self.stamps[high - 1])
            share = float(np.clip((stamp - self.stamps[high - 1]) / span, 0, 1)) if span > 0 else 0.0
            poses[i] = _between(self.poses[high - 1], self.poses[high], share)
        nearest = np.minimum(abs(stamps - self.stamps[after - 1]), abs(stamps - self.stamps[after]))
        # Nothing is known before the first pose or after the last, but a stamp may be rounded.
        inside = (stamps >= self.stamps[0] - 1_000_000) & (stamps <= self.stamps[last] + 1_000_000)
        return poses, inside & (nearest <= reach * 1e9)


def _between(a: Floats, b: Floats, share: float) -> Floats:
    """The pose a `share` of the way from a to b."""
    turn, _ = cv2.Rodrigues(a[:3, :3].T @ b[:3, :3])
    part, _ = cv2.Rodrigues(turn * share)
    pose = np.eye(4)
    pose[:3, :3] = a[:3, :3] @ part
    pose[:3, 3] = (1 - share) * a[:3, 3] + share * b[:3, 3]
    return pose


def pose_matrix(position: Any, orientation: Any) -> Floats:
    """`[4, 4]` from a position and a quaternion message; the quaternion is normalised.

    Raises:
        ValueError: values that are not finite, or a quaternion of no length.
    """
    q = np.array([orientation.w, orientation.x, orientation.y, orientation.z], np.float64)
    t = np.array([position.x, position.y, position.z], np.float64)
    length = np.linalg.norm(q)
    if not (np.isfinite(length) and np.isfinite(t).all()) or length < 1e-6:
        raise ValueError(f"not a pose: position {t}, quaternion (w x y z) {q}")
    w, x, y, z = q / length
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = t
    return pose


def odometry_topics(bag: Bag) -> list[Topic]:
    """Topics of a bag that carry poses over time."""
    return [t for t in bag.topics if t.msgtype in (ODOMETRY, POSE, TRANSFORM) and t.count > 1]


Spans = Sequence[tuple[int, int]]
"""Stretches of recording time [start, stop), nanoseconds."""


def messages_in(bag: Bag, topic: str, spans: Spans | None) -> Iterator[Any]:
    """Messages of a topic within stretches of a bag; all of them when None."""
    for start, stop in spans if spans is not None else [(None, None)]:
        for _, message in bag.messages(topic, start, stop):
            yield message


def read_trajectory(bag: Bag, topic: str, spans: Spans | None = None) -> Trajectory:
    """The poses on an Odometry, PoseStamped or TransformStamped topic.

    Args:
        spans: only what was recorded then.

    Raises:
        BagError: no such topic, another type, values that make no pose, poses of several bodies, or fewer than two.
    """
    stamps, poses, frame = [], [], ""
    for number, message in enumerate(messages_in(bag, topic, spans)):
        where = f"bag {bag.path}, {topic}, message {number}"
        try:
            if hasattr(message, "transform"):
                pose = pose_matrix(message.transform.translation, message.transform.rotation)
            else:
                inner = message.pose.pose if hasattr(message.pose, "pose") else message.pose
                pose = pose_matrix(inner.position, inner.orientation)
            stamps.append(header_stamp(message))
        except AttributeError as error:
            wanted = ", ".join(kind.rpartition("/")[2] for kind in (ODOMETRY, POSE, TRANSFORM))
            raise BagError(f"{where}: {message.__msgtype__} tells no pose over time; {wanted} do") from error
        except ValueError as error:
            raise BagError(f"{where}: {error}") from error
        poses.append(pose)
        body = getattr(message, "child_frame_id", "") or frame
        if frame and body != frame:
            raise BagError(f"{where}: tells where {body!r} is, those before where {frame!r} is")
        frame = body
    if len(stamps) < 2:
        raise BagError(f"bag {bag.path}: {topic} holds {len(stamps)} poses, motion needs at least two")
    order = np.argsort(stamps, kind="stable")
    return Trajectory(np.array(stamps, np.int64)[order], np.array(poses)[order], frame)
