"""`ssmde bag`: what a recording holds, and a bag out of a video."""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ssmde_ros.data.bags import Bag, BagError
from ssmde_ros.data.sources import open_source
from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import PinholeCamera


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
    made = actions.add_parser(
        "from-video",
        help="a bag out of a video or a folder of images",
        description="Writes a rosbag2 (mcap) with /camera/image_rect/compressed (JPEG) and /camera/camera_info, as a "
        "camera of the given field of view would record it.",
        epilog="example: ssmde bag from-video drive.mp4 drive_bag --hfov 58",
    )
    made.add_argument("video", type=Path, help="video file or folder of images")
    made.add_argument("bag", type=Path, help="bag to write; must not exist")
    made.add_argument("--hfov", type=float, help="horizontal field of view, degrees, of a camera centred on its image")
    made.add_argument("--k", type=float, nargs=4, metavar=("FX", "FY", "CX", "CY"), help="intrinsics, pixels")
    made.add_argument("--rate", type=float, help="frames a second, instead of the video's own (folders: 10)")
    made.add_argument("--frame-id", default="camera_optical_frame", help="optical frame (%(default)s)")
    made.set_defaults(run=run_from_video)


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


def run_from_video(options: argparse.Namespace) -> int:
    """Write a bag."""
    if (options.hfov is None) == (options.k is None):
        raise SsmdeError("the camera must be known: give either --hfov DEGREES or --k FX FY CX CY")
    if options.hfov is not None and not 1 <= options.hfov < 180:
        raise SsmdeError(f"--hfov must lie in [1, 180) degrees, got {options.hfov:g}")
    if options.k is not None and min(options.k) <= 0:
        raise SsmdeError(f"--k must be positive, got {' '.join(f'{v:g}' for v in options.k)}")
    if options.rate is not None and options.rate <= 0:
        raise SsmdeError(f"--rate must be positive, got {options.rate:g}")
    from ssmde_ros.data.bag_writer import CameraBagWriter

    with open_source(options.video) as source, CameraBagWriter(options.bag, options.frame_id) as writer:
        frames = tqdm(source.frames, total=source.count, desc=f"writing {options.bag.name}", unit="frame", delay=2.0)
        for number, frame in enumerate(frames):
            height, width = frame.image.shape[:2]
            camera = (
                PinholeCamera(width, height, *options.k)
                if options.k is not None
                else PinholeCamera.from_hfov(width, height, math.radians(options.hfov))
            )
            stamped = frame.stamp if options.rate is None and frame.stamp > number else None
            rate = options.rate or 10.0
            writer.write(frame.image, camera, round(number * 1e9 / rate) if stamped is None else stamped)
    print(f"{options.bag}: {number + 1} frames; fine-tune on it: ssmde train --bag {options.bag}")
    return 0
