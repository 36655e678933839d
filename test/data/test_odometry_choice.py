"""An odometry is found by itself, carried over to the camera, and believed only when the images agree."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from ssmde_ros.data.bags import Bag
from ssmde_ros.data.clip import ClipConfig
from ssmde_ros.data.key_frames import choose_key_frames
from ssmde_ros.data.odometry import Trajectory
from ssmde_ros.data.odometry_choice import attach_odometry, find_odometry, implausible
from ssmde_ros.data.recording import RecordingConfig, load_recording
from ssmde_ros.data.transforms import TF, read_transforms
from test.data.test_bags import camera, header, make, write

SECOND = 10**9
# The optical frame on a robot that looks ahead: x right, y down, z ahead (REP 103).
MOUNT = np.array([[0, 0, 1, 0.2], [-1, 0, 0, 0.0], [0, -1, 0, 0.5], [0, 0, 0, 1.0]])


def quaternion(rotation):
    vector = cv2.Rodrigues(rotation)[0].ravel()
    angle = np.linalg.norm(vector)
    axis = vector / angle if angle else np.zeros(3)
    x, y, z = axis * np.sin(angle / 2)
    return make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=np.cos(angle / 2))


def transform(stamp, parent, child, pose):
    x, y, z = pose[:3, 3]
    return make(
        "geometry_msgs/msg/TransformStamped",
        header=replace_frame(header(stamp), parent),
        child_frame_id=child,
        transform=make(
            "geometry_msgs/msg/Transform",
            translation=make("geometry_msgs/msg/Vector3", x=x, y=y, z=z),
            rotation=quaternion(pose[:3, :3]),
        ),
    )


def replace_frame(head, frame):
    head.frame_id = frame
    return head


def odometry(stamp, pose, body):
    stamped = transform(stamp, "odom", body, pose).transform
    place = make("geometry_msgs/msg/Point", x=pose[0, 3], y=pose[1, 3], z=pose[2, 3])
    zero = make("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
    return make(
        "nav_msgs/msg/Odometry",
        header=replace_frame(header(stamp), "odom"),
        child_frame_id=body,
        pose=make(
            "geometry_msgs/msg/PoseWithCovariance",
            pose=make("geometry_msgs/msg/Pose", position=place, orientation=stamped.rotation),
            covariance=np.zeros(36),
        ),
        twist=make(
            "geometry_msgs/msg/TwistWithCovariance",
            twist=make("geometry_msgs/msg/Twist", linear=zero, angular=zero),
            covariance=np.zeros(36),
        ),
    )


def driving(step):
    """A robot that drives ahead and turns left."""
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(np.array([0, 0, 0.1 * step]))[0]
    pose[:3, 3] = [0.3 * step, 0.01 * step**2, 0]
    return pose


def bag_with(path, **topics):
    return write(path, camera(6) | {f"/{name}": messages for name, messages in topics.items()})


def stamps(count=6):
    return [SECOND + i * 10**8 for i in range(count)]


def test_odometry_of_the_robot_is_carried_over_to_its_camera(tmp_path):
    static = make(
        TF, transforms=[transform(SECOND, "base_link", "mast", MOUNT), transform(SECOND, "mast", "cam", np.eye(4))]
    )
    path = bag_with(
        tmp_path / "bag",
        odom=[odometry(s, driving(i), "base_link") for i, s in enumerate(stamps())],
        tf_static=[static],
    )
    with Bag(path) as bag:
        (found,), refused = find_odometry(bag, "cam")
    assert not refused
    assert found.name == "/odom"
    np.testing.assert_allclose(found.trajectory.poses, [driving(i) @ MOUNT for i in range(6)], atol=1e-9)


def test_odometry_without_a_mount_is_refused_with_the_reason(tmp_path):
    path = bag_with(tmp_path / "bag", odom=[odometry(s, driving(i), "base_link") for i, s in enumerate(stamps())])
    with Bag(path) as bag:
        found, refused = find_odometry(bag, "cam")
    assert not found
    assert "'base_link'" in refused[0]
    assert "/tf_static" in refused[0]


def test_tf_alone_tells_where_the_camera_was(tmp_path):
    moving = [
        make(TF, transforms=[transform(s, "map", "odom", np.eye(4)), transform(s, "odom", "base_link", driving(i))])
        for i, s in enumerate(stamps())
    ]
    static = [make(TF, transforms=[transform(SECOND, "base_link", "cam", MOUNT)])]
    with Bag(bag_with(tmp_path / "bag", tf=moving, tf_static=static)) as bag:
        (found,), _ = find_odometry(bag, "cam")
        assert read_transforms(bag).chain("cam") == ["cam", "base_link", "odom", "map"]
    assert found.name.startswith("/tf")
    np.testing.assert_allclose(found.trajectory.poses, [driving(i) @ MOUNT for i in range(6)], atol=1e-9)


def test_a_camera_that_hangs_on_nothing_that_moves_has_no_odometry(tmp_path):
    static = [make(TF, transforms=[transform(SECOND, "base_link", "cam", MOUNT)])]
    with Bag(bag_with(tmp_path / "bag", tf_static=static)) as bag:
        assert find_odometry(bag, "cam") == ([], [])


@pytest.fixture(scope="module")
def kitchen(recording):
    path = recording("kitchen")
    found = load_recording(ClipConfig(path, 192, 160), RecordingConfig(max_frames=60, window_frames=60, workers=1))
    return path, found, [choose_key_frames(clip) for clip in found.clips]


@pytest.fixture(scope="module")
def odom(kitchen):
    path, found, _ = kitchen
    with Bag(path) as bag:
        (candidate,), _ = find_odometry(bag, found.frame_id, found.spans)
    return candidate.trajectory


def changed(trajectory, poses):
    return Trajectory(trajectory.stamps, poses, trajectory.frame_id)


def test_a_good_odometry_is_used_and_said_to_be(kitchen, caplog):
    path, found, frames = kitchen
    caplog.set_level("INFO")
    with Bag(path) as bag:
        assert attach_odometry(bag, found.clips, frames, found.frame_id, "auto", found.spans) == "/odom"
    assert "using /odom, so depth will be metric" in caplog.text
    assert all(clip.pose_known.all() for clip in found.clips)


def test_a_frozen_odometry_is_refused(kitchen, odom):
    _, found, frames = kitchen
    assert "frozen" in implausible(changed(odom, np.tile(odom.poses[:1], (len(odom.poses), 1, 1))), found.clips, frames)


def test_a_jumping_odometry_is_refused(kitchen, odom):
    _, found, frames = kitchen
    poses = odom.poses.copy()
    poses[len(poses) // 2 :, :3, 3] += [5.0, 0, 0]
    assert "jumps by" in implausible(changed(odom, poses), found.clips, frames)


@pytest.mark.parametrize("turn", [(0, 0, np.pi / 2), (np.pi / 2, 0, 0), (0, np.pi, 0)])
def test_an_odometry_of_another_frame_is_refused(kitchen, odom, turn):
    _, found, frames = kitchen
    wrong = np.eye(4)
    wrong[:3, :3] = cv2.Rodrigues(np.array(turn, float))[0]
    assert "disagrees with the images" in implausible(changed(odom, odom.poses @ wrong), found.clips, frames)


def test_an_odometry_of_another_time_is_refused(kitchen, odom):
    _, found, frames = kitchen
    late = Trajectory(odom.stamps + 10**12, odom.poses, odom.frame_id)
    assert "covers none" in implausible(late, found.clips, frames)
    shifted = replace(odom, poses=np.roll(odom.poses, 25, axis=0)[30:], stamps=odom.stamps[30:])
    assert implausible(shifted, found.clips, frames)
