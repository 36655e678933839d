"""The built-in sample: a few seconds of the synthetic street, written as an mcap bag at first use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from tqdm import tqdm

from ssmde_ros.data.synthetic import SyntheticFrame, SyntheticWorld, WorldConfig
from ssmde_ros.geometry import PinholeCamera

SECONDS, RATE, SEED = 6.0, 10.0, 21
_FIRST_STAMP = 1_700_000_000


def sample_frames() -> Iterator[SyntheticFrame]:
    """The frames of the sample, in order."""
    camera = PinholeCamera(640, 480, 525.0, 525.0, 319.5, 239.5)
    world = SyntheticWorld(WorldConfig("street", SEED, camera, noise=0.01, exposure_change=0.03))
    for index in range(int(SECONDS * RATE)):
        yield world.render(index / RATE)


def sample_bag(cache: Path | None = None) -> Path:
    """The sample's path, drawing it first when it is not there yet (about half a minute)."""
    root = cache or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ssmde_ros"
    target = root / f"sample-street-{SEED}-v1"
    if (target / "metadata.yaml").is_file():
        return target
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)
    try:
        write_bag(partial, sample_frames(), int(SECONDS * RATE))
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def write_bag(path: Path, frames: Iterator[SyntheticFrame], count: int) -> None:
    """Write frames as `/camera/image_raw` (rgb8), `/camera/camera_info` and `/camera/depth` (32FC1 metres)."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        names = {"image_raw": "Image", "camera_info": "CameraInfo", "depth": "Image"}
        connections = {
            name: writer.add_connection(f"/camera/{name}", f"sensor_msgs/msg/{kind}", typestore=store)
            for name, kind in names.items()
        }
        for frame in tqdm(frames, total=count, desc="drawing the built-in sample", unit="frame"):
            stamp = _FIRST_STAMP * 1_000_000_000 + round(frame.time * 1e9)
            time = types["builtin_interfaces/msg/Time"](stamp // 1_000_000_000, stamp % 1_000_000_000)
            header = types["std_msgs/msg/Header"](time, "camera_optical_frame")
            image = (frame.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
            height, width = image.shape[:2]
            k = frame.intrinsics.double().numpy().flatten()
            region = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
            p = np.array([k[0], 0, k[2], 0, 0, k[4], k[5], 0, 0, 0, 1, 0])
            info = types["sensor_msgs/msg/CameraInfo"](
                header, height, width, "plumb_bob", np.zeros(5), k, np.eye(3).flatten(), p, 0, 0, region
            )
            depth = np.where(np.isinf(frame.depth[0].numpy()), 0, frame.depth[0].numpy()).astype(np.float32)
            make_image = types["sensor_msgs/msg/Image"]
            messages = {
                "image_raw": make_image(header, height, width, "rgb8", 0, width * 3, image.reshape(-1)),
                "camera_info": info,
                "depth": make_image(header, height, width, "32FC1", 0, width * 4, depth.reshape(-1).view(np.uint8)),
            }
            for name, message in messages.items():
                writer.write(connections[name], stamp, store.serialize_cdr(message, connections[name].msgtype))
