from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.data.bags import Bag, BagError
from ssmde_ros.data.odometry import Trajectory, odometry_topics, pose_matrix, read_trajectory
from test.data.test_bags import header, image, make, write

SECOND = 10**9
HALF = 0.5**0.5


def vector(x, y, z):
    return SimpleNamespace(x=x, y=y, z=z)


def quaternion(w, x, y, z):
    return SimpleNamespace(w=w, x=x, y=y, z=z)


def about(axis, degrees, shift=(0, 0, 0)):
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(np.radians(degrees) * np.asarray(axis, float))[0]
    pose[:3, 3] = shift
    return pose


@pytest.mark.parametrize(
    ("q", "x_becomes", "y_becomes"),
    [
        ((1, 0, 0, 0), (1, 0, 0), (0, 1, 0)),
        ((HALF, 0, 0, HALF), (0, 1, 0), (-1, 0, 0)),
        ((HALF, 0, HALF, 0), (0, 0, -1), (0, 1, 0)),
        ((HALF, HALF, 0, 0), (1, 0, 0), (0, 0, 1)),
        ((0, 0, 0, 1), (-1, 0, 0), (0, -1, 0)),
        ((-1, 0, 0, 0), (1, 0, 0), (0, 1, 0)),
    ],
)
def test_quarter_turns_in_closed_form(q, x_becomes, y_becomes):
    pose = pose_matrix(vector(1, 2, 3), quaternion(*q))
    np.testing.assert_allclose(pose[:3, 0], x_becomes, atol=1e-15)
    np.testing.assert_allclose(pose[:3, 1], y_becomes, atol=1e-15)
    assert pose[:, 3].tolist() == [1, 2, 3, 1]
    assert pose[3].tolist() == [0, 0, 0, 1]


@given(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1), st.floats(1e-3, 1e3))
def test_a_quaternion_of_any_length_is_a_rotation(q, length):
    pose = pose_matrix(vector(0, 0, 0), quaternion(*(length * v for v in q)))
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    np.testing.assert_allclose(pose, pose_matrix(vector(0, 0, 0), quaternion(*(-v for v in q))), atol=1e-12)


@pytest.mark.parametrize(
    "q", [(0, 0, 0, 0), (1e-9, 0, 0, 0), (np.nan, 0, 0, 1), (np.inf, 0, 0, 0), (1e200, 1e200, 0, 0)]
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_quaternion_that_is_none_is_refused(q):
    with pytest.raises(ValueError, match="not a pose") as error:
        pose_matrix(vector(0, 0, 0), quaternion(*q))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("t", [(np.nan, 0, 0), (0, -np.inf, 0)])
def test_a_position_that_is_none_is_refused(t):
    with pytest.raises(ValueError, match="not a pose"):
        pose_matrix(vector(*t), quaternion(1, 0, 0, 0))


def trajectory(*stamped):
    stamps, poses = zip(*stamped, strict=True)
    return Trajectory((np.array(stamps) * 1e9).round().astype(np.int64), np.array(poses), "")


def at(path, *seconds, **options):
    return path.at((np.array(seconds) * 1e9).round().astype(np.int64), **options)


def test_between_two_poses_position_is_linear_and_rotation_takes_the_shortest_arc():
    path = trajectory((1.0, about((0, 0, 1), 0, (0, 0, 0))), (1.1, about((0, 0, 1), 90, (4, 0, 2))))
    poses, known = at(path, 1.0, 1.025, 1.05, 1.1)
    assert known.all()
    for pose, share in zip(poses, (0, 0.25, 0.5, 1), strict=True):
        np.testing.assert_allclose(pose, about((0, 0, 1), 90 * share, (4 * share, 0, 2 * share)), atol=1e-7)


def test_a_turn_across_half_a_circle_goes_the_short_way():
    path = trajectory((0.0, about((0, 0, 1), 170)), (0.1, about((0, 0, 1), -170)))
    poses, _ = at(path, 0.05)
    np.testing.assert_allclose(poses[0], about((0, 0, 1), 180), atol=1e-7)


@settings(deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_poses_in_between_are_rigid(seed, share):
    rng = np.random.default_rng(seed)
    a, b = (about(rng.normal(size=3), 57.3, rng.normal(size=3)) for _ in range(2))
    poses, _ = at(trajectory((0, a), (1, b)), share)
    np.testing.assert_allclose(poses[0, :3, :3] @ poses[0, :3, :3].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(poses[0, :3, :3]) == pytest.approx(1)


def test_outside_the_recording_nothing_is_known():
    path = trajectory((1.0, np.eye(4)), (1.1, about((0, 0, 1), 0, (1, 0, 0))))
    poses, known = at(path, 0.9, 0.95, 0.9995, 1.1005, 1.15, 9.0)
    assert known.tolist() == [False, False, True, True, False, False], "a stamp may be rounded by a millisecond"
    assert poses[:, 0, 3].tolist() == [0, 0, 0, 1, 1, 1], "never extrapolated"


def test_in_a_gap_only_what_is_near_an_end_is_known():
    path = trajectory((0.0, np.eye(4)), (0.1, np.eye(4)), (1.0, np.eye(4)), (1.1, np.eye(4)))
    _, known = at(path, 0.15, 0.3, 0.5, 0.89, 0.95, reach=0.1)
    assert known.tolist() == [True, False, False, False, True]
    assert at(path, 0.5, reach=0.5)[1].all()


def test_images_may_come_in_any_order_and_poses_twice():
    same = about((0, 0, 1), 0, (5, 0, 0))
    path = trajectory((0.0, np.eye(4)), (0.1, same), (0.1, same), (0.2, about((0, 0, 1), 0, (9, 0, 0))))
    poses, known = at(path, 0.2, 0.05, 0.1, 0.15)
    assert known.all()
    assert poses[:, 0, 3] == pytest.approx([9, 2.5, 5, 7])


def test_nanoseconds_of_this_century_do_not_lose_digits():
    start = 1_700_000_000 * SECOND
    path = Trajectory(np.array([start, start + 1000]), np.array([np.eye(4), about((0, 0, 1), 0, (1, 0, 0))]), "")
    poses, _ = path.at(np.array([start + 250]))
    assert poses[0, 0, 3] == pytest.approx(0.25)


def pose_message(position, turn=(1.0, 0.0, 0.0, 0.0)):
    w, x, y, z = turn
    return make(
        "geometry_msgs/msg/Pose",
        position=make("geometry_msgs/msg/Point", x=position[0], y=position[1], z=position[2]),
        orientation=make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
    )


def odometry(stamp, position, turn=(1.0, 0.0, 0.0, 0.0), body="cam"):
    zero = make("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
    still = make("geometry_msgs/msg/Twist", linear=zero, angular=zero)
    covariance = np.zeros(36)
    return make(
        "nav_msgs/msg/Odometry", header=header(stamp), child_frame_id=body,
        pose=make("geometry_msgs/msg/PoseWithCovariance", pose=pose_message(position, turn), covariance=covariance),
        twist=make("geometry_msgs/msg/TwistWithCovariance", twist=still, covariance=covariance),
    )  # fmt: skip


def stamped(stamp, position, turn=(1.0, 0.0, 0.0, 0.0)):
    return make("geometry_msgs/msg/PoseStamped", header=header(stamp), pose=pose_message(position, turn))


def transform(stamp, position, turn=(1.0, 0.0, 0.0, 0.0), body="cam"):
    inner = make(
        "geometry_msgs/msg/Transform",
        translation=make("geometry_msgs/msg/Vector3", x=position[0], y=position[1], z=position[2]),
        rotation=pose_message(position, turn).orientation,
    )
    return make("geometry_msgs/msg/TransformStamped", header=header(stamp), child_frame_id=body, transform=inner)


STAMPS = [2 * SECOND, 3 * SECOND, SECOND]  # recorded out of order
TURN = (HALF, 0.0, 0.0, HALF)


@pytest.mark.parametrize(("kind", "body"), [(odometry, "cam"), (stamped, ""), (transform, "cam")])
def test_each_kind_of_message_gives_the_same_trajectory(tmp_path, kind, body):
    topics = {"/pose": [kind(s, (s / 1e9, 0.0, 7.0), TURN) for s in STAMPS], "/image": [image(SECOND)]}
    with Bag(write(tmp_path / "bag", topics)) as bag:
        assert [t.name for t in odometry_topics(bag)] == ["/pose"]
        path = read_trajectory(bag, "/pose")
    assert path.stamps.tolist() == [SECOND, 2 * SECOND, 3 * SECOND]
    assert path.poses[:, 0, 3].tolist() == [1, 2, 3]
    np.testing.assert_allclose(path.poses[0, :3, 0], (0, 1, 0), atol=1e-15)
    assert path.frame_id == body


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([odometry(SECOND, (0.0, 0.0, 0.0))], "/pose holds 1 poses, motion needs at least two"),
        ([odometry(SECOND, (0.0, 0.0, 0.0)), odometry(2 * SECOND, (np.nan, 0.0, 0.0))], "/pose, message 1: not a pose"),
        ([odometry(SECOND, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0))] * 2, "/pose, message 0: not a pose"),
        ([image(SECOND)] * 3, "/pose, message 0: sensor_msgs/msg/Image tells no pose over time; Odometry, PoseStamped"),
        ([odometry(SECOND, (0.0, 0.0, 0.0)).pose] * 2, "PoseWithCovariance tells no pose over time"),
        (
            [transform(s, (0.0, 0.0, 0.0), body=b) for s, b in [(1, "cam"), (2, "arm")]],
            "'arm' is, those before where 'cam'",
        ),
    ],
)
def test_topics_that_make_no_trajectory_say_so_in_one_line(tmp_path, messages, words):
    with Bag(write(tmp_path / "bag", {"/pose": messages})) as bag, pytest.raises(BagError) as error:
        read_trajectory(bag, "/pose")
    assert words in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_topic_that_is_not_there_lists_those_that_are(tmp_path):
    with Bag(write(tmp_path / "bag", {"/image": [image(SECOND)]})) as bag:
        with pytest.raises(BagError, match=r"no topic /odom; it has /image"):
            read_trajectory(bag, "/odom")
        assert odometry_topics(bag) == []


def test_an_empty_topic_holds_no_poses(tmp_path):
    from rosbags.rosbag2 import StoragePlugin
    from rosbags.rosbag2 import Writer as Writer2

    from test.data.test_bags import STORE

    with Writer2(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection("/odom", "nav_msgs/msg/Odometry", typestore=STORE)
        other = writer.add_connection("/image", "sensor_msgs/msg/Image", typestore=STORE)
        writer.write(other, SECOND, STORE.serialize_cdr(image(SECOND), "sensor_msgs/msg/Image"))
    with Bag(tmp_path / "bag") as bag, pytest.raises(BagError, match="holds 0 poses|no topic /odom"):
        read_trajectory(bag, "/odom")
