"""Measured depth at the times of images: from a depth camera's images, or from a lidar's points through its mount."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmde_ros.data.bags import Bag, BagError, Topic, header_stamp
from ssmde_ros.data.clip import Clip
from ssmde_ros.data.images import ImageFormatError, decode_depth
from ssmde_ros.data.odometry import Spans, messages_in
from ssmde_ros.data.transforms import read_transforms
from ssmde_ros.geometry import PinholeCamera

CLOUD = "sensor_msgs/msg/PointCloud2"

Floats = NDArray[np.float64]

_FLOAT_TYPES = {7: "f4", 8: "f8"}  # sensor_msgs/PointField datatypes
_NEAREST = 0.05  # metres; nearer returns are the robot itself


def depth_topic(bag: Bag, wanted: str) -> Topic | None:
    """The topic to judge by.

    Args:
        wanted: "none", "auto" (the only depth image topic, else the only cloud) or a name.

    Raises:
        BagError: no such topic, or one that holds no depth.
    """
    images = [t for t in bag.topics if t.kind == "depth" and t.count]
    clouds = [t for t in bag.topics if t.msgtype == CLOUD and t.count]
    if wanted == "none":
        return None
    if wanted == "auto":
        return images[0] if len(images) == 1 else clouds[0] if not images and len(clouds) == 1 else None
    for topic in images + clouds:
        if topic.name == wanted:
            return topic
    names = ", ".join(t.name for t in images + clouds) or "none"
    raise BagError(f"bag {bag.path} has no depth topic {wanted}; of depth images and clouds it has {names}")


def measured_depth(
    bag: Bag, topic: Topic, clips: list[Clip], frame_id: str, spans: Spans | None = None
) -> dict[tuple[int, int], NDArray[np.float32]]:
    """Depth maps `[h, w]` (metres, 0 where unknown) nearest in time to the frames of clips.

    A map counts for a frame within half a frame interval. Points of a cloud are seen by the camera of the clip's
    working size, the nearest one per pixel.

    Args:
        frame_id: optical frame of the camera.
        spans: stretches of recording time to read.

    Returns:
        By number of the clip and of the frame in it.

    Raises:
        BagError: messages that are no depth, or a lidar without a mount in /tf_static.
    """
    frames = [(int(stamp), number, t) for number, clip in enumerate(clips) for t, stamp in enumerate(clip.stamps)]
    if not frames:
        return {}
    stamps = np.array([stamp for stamp, _, _ in frames], np.int64)
    order = np.argsort(stamps)
    intervals = [np.median(np.diff(clip.stamps)) for clip in clips if len(clip) > 1]
    reach = 0.5 * float(np.median(intervals)) if intervals else 5e8
    best: dict[int, tuple[int, NDArray[np.float32]]] = {}
    for stamp, depth in _maps(bag, topic, clips[0].camera, frame_id, spans):
        place = int(np.searchsorted(stamps[order], stamp))
        for near in {max(place - 1, 0), min(place, len(order) - 1)}:
            index = int(order[near])
            away = abs(int(stamps[index]) - stamp)
            if away <= reach and (index not in best or away < best[index][0]):
                best[index] = away, depth
    return {frames[index][1:]: depth for index, (_, depth) in sorted(best.items())}


def _maps(
    bag: Bag, topic: Topic, camera: PinholeCamera, frame_id: str, spans: Spans | None
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    mount: Floats | None = None
    tree = read_transforms(bag, spans) if topic.msgtype == CLOUD else None
    for number, message in enumerate(messages_in(bag, topic.name, spans)):
        where = f"bag {bag.path}, {topic.name}, message {number}"
        if tree is None:
            try:
                yield header_stamp(message), decode_depth(message)
            except ImageFormatError as error:
                raise BagError(f"{where}: {error}") from error
            continue
        if mount is None:
            mount = _mount(tree.chain, tree.between, message.header.frame_id.strip("/"), frame_id.strip("/"))
            if mount is None:
                raise BagError(
                    f"{where}: its points are in {message.header.frame_id!r}, and /tf_static does not say how that sits "
                    f"on {frame_id!r}"
                )
        yield header_stamp(message), project_points(cloud_points(message, where), mount, camera)


def _mount(chain: Any, between: Any, lidar: str, camera: str) -> Floats | None:
    """`T_{lidar->camera}` `[4, 4]` through their common ancestor; None where something moves in between."""
    common = next((name for name in chain(lidar) if name in chain(camera)), None)
    if common is None:
        return None
    of_lidar, of_camera = between(common, lidar), between(common, camera)
    if of_lidar is None or of_camera is None:
        return None
    return np.asarray(np.linalg.inv(of_camera) @ of_lidar, np.float64)


def cloud_points(message: Any, where: str = "cloud") -> Floats:
    """x, y, z `[N, 3]` of a PointCloud2; points that are not finite are left out.

    Raises:
        BagError: no float fields x, y, z, or fewer bytes than announced.
    """
    fields = {field.name: field for field in message.fields}
    if any(name not in fields or fields[name].datatype not in _FLOAT_TYPES for name in "xyz"):
        raise BagError(f"{where}: a cloud without float fields x, y, z")
    sign = ">" if message.is_bigendian else "<"
    dtype = np.dtype(
        {
            "names": list("xyz"),
            "formats": [sign + _FLOAT_TYPES[fields[name].datatype] for name in "xyz"],
            "offsets": [fields[name].offset for name in "xyz"],
            "itemsize": message.point_step,
        }
    )
    data = np.frombuffer(message.data, np.uint8)
    row = message.point_step * message.width
    if message.row_step < row or len(data) < message.row_step * (message.height - 1) + row:
        raise BagError(f"{where}: a cloud of {len(data)} bytes, its fields announce more")
    rows = [data[i * message.row_step : i * message.row_step + row] for i in range(message.height)]
    values = np.concatenate(rows).view(dtype)
    points = np.stack([values[name].astype(np.float64) for name in "xyz"], 1)
    return points[np.isfinite(points).all(1)]


def project_points(points: Floats, mount: Floats, camera: PinholeCamera) -> NDArray[np.float32]:
    """Depth `[H, W]` in metres of points as a camera sees them, the nearest per pixel, 0 where none falls.

    Args:
        points: `[N, 3]` metres, in their own frame.
        mount: `T` `[4, 4]` from there to the camera's optical frame.
    """
    seen = points @ mount[:3, :3].T + mount[:3, 3]
    seen = seen[seen[:, 2] > _NEAREST]
    u = np.round(seen[:, 0] / seen[:, 2] * camera.fx + camera.cx).astype(np.int64)
    v = np.round(seen[:, 1] / seen[:, 2] * camera.fy + camera.cy).astype(np.int64)
    inside = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
    depth = np.full(camera.height * camera.width, np.inf, np.float32)
    np.minimum.at(depth, v[inside] * camera.width + u[inside], seen[inside, 2].astype(np.float32))
    depth[np.isinf(depth)] = 0
    return depth.reshape(camera.height, camera.width)
