"""Plays a recording, or drawn frames, as a camera: for the demo and the live benchmark.

Publishes `image` (or `image/compressed`) and `camera_info`, best-effort like a camera driver. The first
frame is repeated until its depth comes back, so that start-up time is not mistaken for lost frames.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header
from tqdm import tqdm

from ssmde_ros.data.bags import COMPRESSED, Bag, header_stamp
from ssmde_ros.data.sources import open_source
from ssmde_ros.data.synthetic import SyntheticWorld, WorldConfig
from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import PinholeCamera
from ssmde_ros.memory import keep_freed_memory
from ssmde_ros.nodes.messages import camera_info_message, image_message

_PATIENCE = 60.0  # seconds to wait for the first depth image
_SETTLE = 1.0  # seconds without an answer until none to earlier repetitions is expected any more
_LOOK_EVERY = 0.05  # seconds


@dataclass(frozen=True)
class CameraFrame:
    """What a camera driver publishes at one instant; `stamp` in nanoseconds."""

    stamp: int
    image: Image | CompressedImage
    info: CameraInfo | None


def _header(stamp: int, frame_id: str) -> Header:
    header = Header(frame_id=frame_id)
    header.stamp.sec, header.stamp.nanosec = divmod(stamp, 1_000_000_000)
    return header


def _copied_image(source: Any, compressed: bool, header: Header) -> Image | CompressedImage:
    data = array("B")
    data.frombytes(memoryview(source.data).cast("B"))
    if compressed:
        return CompressedImage(header=header, format=source.format, data=data)
    message = Image(header=header, height=source.height, width=source.width, encoding=source.encoding)
    message.is_bigendian, message.step, message.data = int(source.is_bigendian), source.step, data
    return message


def _copied_info(source: Any, header: Header) -> CameraInfo:
    def field(name: str) -> list[float]:
        return [float(v) for v in (getattr(source, name) if hasattr(source, name) else getattr(source, name.upper()))]

    message = CameraInfo(header=header, height=source.height, width=source.width)
    message.distortion_model = source.distortion_model
    message.d, message.k, message.r, message.p = field("d"), field("k"), field("r"), field("p")
    message.binning_x, message.binning_y = source.binning_x, source.binning_y
    roi = source.roi
    message.roi = RegionOfInterest(
        x_offset=roi.x_offset,
        y_offset=roi.y_offset,
        height=roi.height,
        width=roi.width,
        do_rectify=bool(roi.do_rectify),
    )
    return message


def bag_frames(bag: Bag, image_topic: str | None, info_topic: str | None) -> Iterator[CameraFrame]:
    """Images of a bag as they were recorded, each with the camera_info of its stamp or the last one before."""
    topic = bag.choose("image", image_topic, "--image-topic")
    if topic is None:
        raise SsmdeError(f"bag {bag.path} has no image topic")
    info_name = bag.camera_info_for(topic, info_topic)
    infos = ((header_stamp(m), m) for _, m in bag.messages(info_name)) if info_name else iter(())
    current = upcoming = next(infos, None)
    for _, message in bag.messages(topic.name):
        stamp = header_stamp(message)
        while upcoming is not None and upcoming[0] <= stamp:
            current, upcoming = upcoming, next(infos, None)
        header = _header(stamp, message.header.frame_id)
        info = _copied_info(current[1], header) if current else None
        yield CameraFrame(stamp, _copied_image(message, topic.msgtype == COMPRESSED, header), info)


def picture_frames(path: Path, hfov: float) -> Iterator[CameraFrame]:
    """A video or a folder of images, with the camera_info of an assumed field of view (radians)."""
    with open_source(path) as source:
        for number, frame in enumerate(source.frames):
            height, width = frame.image.shape[:2]
            header = _header(1_000_000_000 + number * 100_000_000, "camera_optical_frame")
            info = camera_info_message(header, PinholeCamera.from_hfov(width, height, hfov))
            yield CameraFrame(header_stamp(info), image_message(header, frame.image, "rgb8"), info)


def drawn_frames(width: int, height: int, seconds: float, rate: float) -> Iterator[CameraFrame]:
    """A synthetic street for `seconds`, a dozen frames played over and over; stamps are set when published."""
    camera = PinholeCamera.from_hfov(width, height, 1.1)
    world = SyntheticWorld(WorldConfig("street", 3, camera))
    images: list[NDArray[np.uint8]] = []
    for index in range(12):
        image = world.render(index / 10).image
        images.append((image.permute(1, 2, 0).numpy() * 255).astype(np.uint8))
    for number in range(round(seconds * rate)):
        header = _header(number, "camera_optical_frame")
        yield CameraFrame(0, image_message(header, images[number % 12], "rgb8"), camera_info_message(header, camera))


class PlayerNode(Node):
    """Publishes frames at a fixed rate and remembers when."""

    def __init__(self, compressed: bool) -> None:
        super().__init__("player_node")
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self._image = self.create_publisher(kind, topic, qos_profile_sensor_data)
        self._info = self.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
        self.sent: list[tuple[int, int]] = []

    def publish(self, frame: CameraFrame, now: bool) -> None:
        """Publish one frame; `now` stamps it with the clock instead of the recording."""
        stamp = frame.stamp
        if now:
            stamp = self.get_clock().now().nanoseconds
            for message in (frame.image, frame.info):
                if message is not None:
                    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
        if frame.info is not None:
            self._info.publish(frame.info)
        self.sent.append((stamp, time.monotonic_ns()))
        self._image.publish(frame.image)

    def prime(self, frame: CameraFrame, rate: float, now: bool, heard: Path | None) -> None:
        """Repeat a frame until its depth comes back. Raises SsmdeError when it never does.

        Args:
            rate: of the repetitions, Hz; a camera does not wait for the node to start either.
            heard: a file that the recorder writes with its first depth, for it shall not miss any.
        """
        answered: list[bool] = []
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        listener = self.create_subscription(Image, "depth/image_rect", lambda _: answered.append(True), qos)
        deadline = time.monotonic() + _PATIENCE

        def repeat(wait: float, alone: bool) -> None:
            """Send the frame, if anybody listens, and see to the answers for so long; sent alone, until there is one."""
            if time.monotonic() > deadline:
                raise SsmdeError(f"no depth came back within {_PATIENCE:.0f} s; is the depth node running?")
            if not self._image.get_subscription_count():
                wait = min(wait, _LOOK_EVERY)
            else:
                self.publish(frame, now)
            until = time.monotonic() + wait
            while (left := until - time.monotonic()) > 0 and not (alone and answered):
                rclpy.spin_once(self, timeout_sec=left)

        while not (answered and (heard is None or heard.is_file())):
            repeat(1 / rate, alone=False)
        # Of the repetitions only the last counts as played, and it is sent alone, so that it is not skipped.
        deadline = time.monotonic() + _PATIENCE
        while answered:
            answered.clear()
            rclpy.spin_once(self, timeout_sec=_SETTLE)
        while not answered:
            repeat(1.0, alone=True)
        self.destroy_subscription(listener)
        self.sent = self.sent[-1:]

    def play(self, frames: Iterator[CameraFrame], rate: float, now: bool, count: int | None) -> None:
        """Publish the frames at `rate` Hz; `count` is for the progress bar."""
        period, due = 1.0 / rate, time.monotonic()
        for frame in tqdm(frames, total=count, initial=1, desc="playing", unit="frame"):
            due += period
            # Frames are prepared ahead of their time, so that reading the recording costs no punctuality.
            if (early := due - time.monotonic()) > 0:
                time.sleep(early)
            self.publish(frame, now)


def main(args: list[str] | None = None) -> int:
    """Entry point of the `player_node` executable."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--bag", type=Path, help="rosbag2 folder or ROS 1 .bag")
    source.add_argument("--video", type=Path, help="video file or folder of images")
    source.add_argument("--drawn", metavar="WxH", help="draw synthetic frames of this size")
    parser.add_argument("--image-topic")
    parser.add_argument("--camera-info-topic")
    parser.add_argument("--hfov", type=float, default=60.0, help="assumed horizontal field of view of a video, degrees")
    parser.add_argument("--rate", type=float, default=10.0, help="frames a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to play drawn frames")
    parser.add_argument("--count", type=int, help="number of frames, for the progress bar")
    parser.add_argument("--ready", type=Path, help="file to write once frames are about to be sent")
    parser.add_argument("--heard", type=Path, help="file that a recorder writes with its first depth: start then")
    parser.add_argument("--log", type=Path, required=True, help="JSON file to write: what was sent when")
    options = parser.parse_args(remove_ros_args(args or sys.argv)[1:])
    keep_freed_memory()
    rclpy.init(args=args)
    try:
        if options.bag:
            with Bag(options.bag) as bag:
                _play(bag_frames(bag, options.image_topic, options.camera_info_topic), options, now=False)
        elif options.video:
            _play(picture_frames(options.video, np.radians(options.hfov)), options, now=False)
        else:
            width, height = map(int, options.drawn.split("x"))
            _play(drawn_frames(width, height, options.seconds, options.rate), options, now=True)
    except SsmdeError as error:
        print(f"player: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        rclpy.try_shutdown()
    return 0


def _play(frames: Iterator[CameraFrame], options: argparse.Namespace, now: bool) -> None:
    first = next(frames, None)
    if first is None:
        raise SsmdeError("the recording holds no image")
    node = PlayerNode(isinstance(first.image, CompressedImage))
    try:
        if options.ready:
            options.ready.touch()
        node.prime(first, options.rate, now, options.heard)
        node.play(frames, options.rate, now, options.count)
    finally:
        options.log.write_text(json.dumps({"sent": node.sent}))
        node.destroy_node()


if __name__ == "__main__":
    sys.exit(main())
