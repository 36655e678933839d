"""How long a bag takes until it teaches, and how much memory it holds, by its size.

    python benchmarks/big_bag.py --gigabytes 0.5 2 8

Writes bags of raw 640x480 pictures into a temporary folder, and reads each in a process of its own as `ssmde train --bag`
does. Printed are the seconds until the bag is open and its topics are known, until the first piece is decoded and until all
that is kept is in memory, and the largest resident memory of the reading process and of any of its workers.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from tqdm import tqdm

from ssmde_ros.data.bags import Bag
from ssmde_ros.data.clip import ClipConfig
from ssmde_ros.data.recording import RecordingConfig, load_recording

WIDTH, HEIGHT, RATE = 640, 480, 30
STORE = get_typestore(Stores.ROS2_HUMBLE)


def write_bag(path: Path, gigabytes: float, storage: StoragePlugin) -> int:
    """A camera that slides over noise; the number of its frames."""
    types = STORE.types
    frames = round(gigabytes * 1e9 / (WIDTH * HEIGHT * 3))
    wall = np.random.default_rng(0).integers(0, 255, (HEIGHT, 4 * WIDTH, 3), np.uint8)
    lens = np.array([500.0, 0, 319.5, 0, 500.0, 239.5, 0, 0, 1])
    region = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    with Writer(path, version=9, storage_plugin=storage) as writer:
        kinds = {"/cam/image_rect": "sensor_msgs/msg/Image", "/cam/camera_info": "sensor_msgs/msg/CameraInfo"}
        topics = {name: writer.add_connection(name, kind, typestore=STORE) for name, kind in kinds.items()}
        for number in tqdm(range(frames), desc=path.name, unit="frame"):
            stamp = 10**9 + number * 10**9 // RATE
            time_of = types["builtin_interfaces/msg/Time"](stamp // 10**9, stamp % 10**9)
            head = types["std_msgs/msg/Header"](time_of, "cam")
            left = number % (3 * WIDTH)
            data = np.ascontiguousarray(wall[:, left : left + WIDTH]).reshape(-1)
            made = [
                types[kinds["/cam/image_rect"]](head, HEIGHT, WIDTH, "rgb8", 0, 3 * WIDTH, data),
                types[kinds["/cam/camera_info"]](
                    head, HEIGHT, WIDTH, "plumb_bob", np.zeros(5), lens, np.eye(3).ravel(), np.zeros(12), 0, 0, region
                ),
            ]
            for topic, message in zip(topics, made, strict=True):
                writer.write(topics[topic], stamp, STORE.serialize_cdr(message, kinds[topic]))
    return frames


def read_bag(path: Path) -> dict[str, float]:
    """Seconds and megabytes of reading it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.monotonic()
    with Bag(path, salvage=True) as bag:
        bag.choose("image", None, "--image-topic")
    opened = time.monotonic() - start
    pieces: list[float] = []
    recording = load_recording(
        ClipConfig(path, 256, 192), RecordingConfig(), lambda: pieces.append(time.monotonic() - start)
    )
    return {
        "open_s": opened,
        "first_s": pieces[0],
        "all_s": time.monotonic() - start,
        "kept": sum(len(clip) for clip in recording.clips),
        "before_mib": before,
        "self_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "worker_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def main() -> None:
    """One line for each size and storage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.5, 2, 8])
    parser.add_argument("--storage", nargs="+", default=["mcap", "sqlite3"], choices=["mcap", "sqlite3"])
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(read_bag(options.read)))
        return
    print("storage      GB  frames   kept  open s  first s   all s  MiB (imports)  MiB  MiB of a worker")
    for storage in options.storage:
        for size in options.gigabytes:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"{storage}-{size:g}"
                frames = write_bag(path, size, StoragePlugin[storage.upper()])
                done = subprocess.run(
                    [sys.executable, __file__, "--read", str(path)], stdout=subprocess.PIPE, check=True, text=True
                )
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{storage:8} {size:6.1f} {frames:7} {found['kept']:6} {found['open_s']:7.2f} {found['first_s']:8.2f} "
                f"{found['all_s']:7.1f} {found['before_mib']:14.0f} {found['self_mib']:4.0f} {found['worker_mib']:16.0f}"
            )


if __name__ == "__main__":
    main()
