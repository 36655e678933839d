"""Listens to a depth node and writes down what came when: for the demo and the live benchmark.

Writes OUT/received.json and, of one frame in the middle, OUT/snapshot.npz (depth, points, camera matrix).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import get_rmw_implementation_identifier, remove_ros_args
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from ssmde_ros.data.bags import header_stamp
from ssmde_ros.nodes.spin import run

_KEPT = 8  # snapshots held while playing; the middle one is written


class RecorderNode(Node):
    """Counts and times depth, camera_info and points."""

    def __init__(self, out: Path, with_points: bool, snapshots: bool) -> None:
        super().__init__("recorder_node")
        self._out, self._snapshots = out, snapshots
        self._depths: dict[int, dict[str, Any]] = {}
        self._infos: dict[int, tuple[int, int, list[float]]] = {}
        self._points: dict[int, int] = {}
        self._diagnostics: dict[str, str] = {}
        self._frames: dict[int, dict[str, NDArray[Any]]] = {}
        self._stride = 1
        qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        self.create_subscription(Image, "depth/image_rect", self._on_depth, qos)
        self.create_subscription(CameraInfo, "depth/camera_info", self._on_info, qos)
        if with_points:
            self.create_subscription(PointCloud2, "points", self._on_points, qos)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_depth(self, message: Image) -> None:
        stamp, now = header_stamp(message), time.monotonic_ns()
        if not self._depths:
            self._out.mkdir(parents=True, exist_ok=True)
            (self._out / "heard").touch()
        age = self.get_clock().now().nanoseconds - stamp
        size = (message.width, message.height)
        self._depths[stamp] = {"mono": now, "age": age, "frame_id": message.header.frame_id, "size": size}
        if self._snapshots and len(self._depths) % self._stride == 0:
            depth = np.frombuffer(message.data, np.float32).reshape(message.height, message.width)
            self._keep(stamp)["depth"] = depth.copy()

    def _keep(self, stamp: int) -> dict[str, NDArray[Any]]:
        """The snapshot of a stamp; when there are too many, every other one goes and the stride doubles."""
        if stamp not in self._frames and len(self._frames) >= _KEPT:
            self._frames = dict(sorted(self._frames.items())[::2])
            self._stride *= 2
        return self._frames.setdefault(stamp, {})

    def _on_info(self, message: CameraInfo) -> None:
        self._infos[header_stamp(message)] = (message.width, message.height, [float(v) for v in message.k])

    def _on_points(self, message: PointCloud2) -> None:
        stamp = header_stamp(message)
        self._points[stamp] = time.monotonic_ns()
        if self._snapshots and stamp in self._frames:
            points = np.frombuffer(message.data, np.float32).reshape(-1, message.point_step // 4)
            self._frames[stamp]["points"] = points.copy()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        beside = f"{self.get_namespace().rstrip('/')}/depth_node:"  # /diagnostics is of all cameras
        for status in message.status:
            if status.name.startswith(beside):
                self._diagnostics = {pair.key: pair.value for pair in status.values}

    def write(self) -> None:
        """Write what was received."""
        self._out.mkdir(parents=True, exist_ok=True)
        received = {
            "depths": [{"stamp": stamp, **entry} for stamp, entry in sorted(self._depths.items())],
            "infos": [[stamp, *entry] for stamp, entry in sorted(self._infos.items())],
            "points": sorted(self._points.items()),
            "diagnostics": self._diagnostics,
            "rmw": get_rmw_implementation_identifier(),
        }
        (self._out / "received.json").write_text(json.dumps(received))
        whole: list[dict[str, Any]] = [
            frame | {"stamp": np.int64(stamp)} for stamp, frame in sorted(self._frames.items()) if "depth" in frame
        ]
        for frame in whole:
            if (info := self._infos.get(int(frame["stamp"]))) is not None:
                frame["k"] = np.array(info[2]).reshape(3, 3)
        with_points = [frame for frame in whole if "points" in frame] or whole
        if with_points:
            np.savez(self._out / "snapshot.npz", **with_points[len(with_points) // 2])

    def destroy_node(self) -> None:
        """Write, then go."""
        self.write()
        super().destroy_node()


def main(args: list[str] | None = None) -> int:
    """Entry point of the `recorder_node` executable."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--points", action="store_true", help="subscribe to the cloud, too")
    parser.add_argument("--snapshots", action="store_true", help="keep the depth and points of a frame in the middle")
    options = parser.parse_args(remove_ros_args(args or sys.argv)[1:])
    return run(lambda: RecorderNode(options.out, options.points, options.snapshots), args)


if __name__ == "__main__":
    sys.exit(main())
