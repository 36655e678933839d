"""Where the camera was, from /tf and /tf_static of a bag."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ssmde_ros.data.bags import Bag, header_stamp
from ssmde_ros.data.odometry import Spans, Trajectory, messages_in, pose_matrix

_log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

TF = "tf2_msgs/msg/TFMessage"


@dataclass
class TransformTree:
    """Frames and their parents.

    Attributes:
        fixed: by child frame, its parent and the pose of the child in it `[4, 4]`, metres.
        moving: by child frame, its parent, the stamps (nanoseconds) and the poses.
    """

    fixed: dict[str, tuple[str, Floats]] = field(default_factory=dict)
    moving: dict[str, tuple[str, list[int], list[Floats]]] = field(default_factory=dict)

    def chain(self, frame: str) -> list[str]:
        """The frame and its ancestors, the root last."""
        found = [frame]
        while (parent := self._parent(found[-1])) is not None and parent not in found:
            found.append(parent)
        return found

    def _parent(self, frame: str) -> str | None:
        if frame in self.moving:
            return self.moving[frame][0]
        return self.fixed[frame][0] if frame in self.fixed else None

    def between(self, ancestor: str, frame: str) -> Floats | None:
        """Pose `[4, 4]` of a frame in an ancestor, where nothing between them moves; None otherwise."""
        pose = np.eye(4)
        for name in self.chain(frame):
            if name == ancestor:
                return pose
            if name not in self.fixed or name in self.moving:
                return None
            pose = self.fixed[name][1] @ pose
        return None

    def trajectory(self, frame: str) -> Trajectory | None:
        """Poses of a frame in the root of its tree; None where nothing above it moves."""
        chain = self.chain(frame)
        movers = [name for name in chain if name in self.moving and len(self.moving[name][1]) > 1]
        if not movers:
            return None
        busiest = max(movers, key=lambda name: len(self.moving[name][1]))
        stamps = np.unique(np.array(self.moving[busiest][1], np.int64))
        poses = np.tile(np.eye(4), (len(stamps), 1, 1))
        known = np.ones(len(stamps), bool)
        for name in chain:
            if name in movers:
                times, values = np.array(self.moving[name][1], np.int64), np.array(self.moving[name][2])
                order = np.unique(times, return_index=True)[1]
                there, seen = Trajectory(times[order], values[order], name).at(stamps, reach=0.5)
                poses, known = there @ poses, known & seen
            elif name in self.fixed:
                poses = self.fixed[name][1] @ poses
        return Trajectory(stamps[known], poses[known], frame) if known.sum() > 1 else None


def read_transforms(bag: Bag, spans: Spans | None = None) -> TransformTree:
    """All transforms of a bag; the static ones wherever they are, the others within stretches of it.

    Those that are none, such as rotations of length zero, are left out with a warning.
    """
    tree, broken = TransformTree(), set[tuple[str, str]]()
    for topic in bag.topics:
        if topic.msgtype != TF or not topic.count:
            continue
        static = topic.name.endswith("tf_static")
        for message in messages_in(bag, topic.name, None if static else spans):
            for transform in message.transforms:
                child, parent = transform.child_frame_id.strip("/"), transform.header.frame_id.strip("/")
                try:
                    pose = pose_matrix(transform.transform.translation, transform.transform.rotation)
                except ValueError as error:  # of some gripper, perhaps; whoever needs it will miss it
                    if (parent, child) not in broken:
                        _log.warning("bag %s, %s, %s to %s is left out: %s", bag.path, topic.name, parent, child, error)
                    broken.add((parent, child))
                    continue
                if static:
                    tree.fixed[child] = parent, pose
                else:
                    _, stamps, poses = tree.moving.setdefault(child, (parent, [], []))
                    stamps.append(header_stamp(transform))
                    poses.append(pose)
    return tree
