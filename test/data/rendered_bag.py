"""Bags of the synthetic world: what a robot with a camera, odometry and a depth camera would record."""

import numpy as np
from rosbags.rosbag2 import StoragePlugin

from ssmde_ros.data.synthetic import SyntheticWorld, WorldConfig
from ssmde_ros.geometry import PinholeCamera
from test.data.test_bags import header, info, make, write
from test.data.test_odometry_choice import odometry

SECOND = 10**9


def picture(stamp, values, encoding):
    height, width = values.shape[:2]
    data = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
    return make(
        "sensor_msgs/msg/Image", header=header(stamp), height=height, width=width, encoding=encoding, is_bigendian=0,
        step=len(data) // height, data=data,
    )  # fmt: skip


def rendered_bag(
    path, frames=40, size=(160, 128), kind="room", seed=5, interval=0.15, odom=True, depth=True, still=False,
    storage=StoragePlugin.MCAP,
):  # fmt: skip
    """A bag with /cam/image, /cam/camera_info, /odom and /depth; `still` repeats the first frame."""
    camera = PinholeCamera(*size, 0.8 * size[0], 0.8 * size[0], (size[0] - 1) / 2, (size[1] - 1) / 2)
    world = SyntheticWorld(WorldConfig(kind, seed, camera, noise=0.005))
    topics = {name: [] for name in ("/cam/image", "/cam/camera_info", "/odom", "/depth")}
    for number in range(frames):
        stamp, frame = SECOND + number * SECOND // 10, world.render(0.0 if still else number * interval)
        image = (frame.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        topics["/cam/image"].append(picture(stamp, image, "rgb8"))
        lens = info(stamp)
        lens.width, lens.height = size
        lens.k = camera.matrix().double().numpy().ravel()
        topics["/cam/camera_info"].append(lens)
        topics["/odom"].append(odometry(stamp, frame.pose.double().numpy(), "cam"))
        measured = frame.depth[0].numpy()
        topics["/depth"].append(
            picture(stamp, np.where(np.isfinite(measured), measured, 0).astype(np.float32), "32FC1")
        )
    wanted = {"/odom": odom, "/depth": depth}
    return write(path, {name: messages for name, messages in topics.items() if wanted.get(name, True)}, storage)
