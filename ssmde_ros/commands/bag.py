"""`ssmde bag info`: what a recording holds, in the words this package uses."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ssmde_ros.data.bags import Bag, BagError


def add_parser(commands: Any) -> None:
    """Add `bag` to the command line."""
    parser = commands.add_parser("bag", help="look into recordings", description="Look into recordings.")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    info = actions.add_parser(
        "info",
        help="topics, rates and cameras of a bag",
        description="Topics of a rosbag2 folder (sqlite3 or mcap, compressed or not) or a ROS 1 .bag file.",
    )
    info.add_argument("bag", type=Path, help="rosbag2 folder or ROS 1 .bag")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(run=run_info)


def run_info(options: argparse.Namespace) -> int:
    """Print what the bag holds."""
    with Bag(options.bag) as bag:
        cameras = {}
        for topic in bag.topics:
            if topic.kind == "camera_info" and topic.count:
                try:
                    camera = bag.calibration(topic.name)
                except BagError as error:
                    cameras[topic.name] = str(error)
                    continue
                lens = "distorted" if any(camera.d) else "no distortion"
                cameras[topic.name] = f"{camera.width}x{camera.height}, fx {camera.k[0]:.1f}, {lens}"
        if options.json:
            topics = [asdict(topic) for topic in bag.topics]
            print(json.dumps({"duration": bag.duration, "topics": topics, "cameras": cameras}, indent=2))
            return 0
        print(f"{options.bag}: {bag.duration:.1f} s")
        width = max((len(topic.name) for topic in bag.topics), default=0)
        for topic in bag.topics:
            print(
                f"  {topic.name:{width}}  {topic.kind:11}  {topic.count:6} messages  {topic.rate:6.1f} Hz  "
                f"{topic.msgtype}  {cameras.get(topic.name, '')}".rstrip()
            )
    return 0
