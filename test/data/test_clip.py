import cv2
import numpy as np
import pytest
import torch

from ssmde_ros.data.bags import BagError
from ssmde_ros.data.clip import TRACKING_WIDTH, Clip, ClipConfig, ClipError, load_clip
from ssmde_ros.data.sample import write_bag
from ssmde_ros.data.sources import SourceError
from ssmde_ros.data.synthetic import SyntheticWorld, WorldConfig
from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import PinholeCamera
from test.data.test_bags import camera, header, image, make, write
from test.data.test_odometry import odometry, stamped

STAMPS = [10**9 + i * 10**8 for i in range(5)]
LENS = (-0.25, 0.06, 0.001, -0.001, 0.0)


def picture(stamp, pixels):
    height, width = pixels.shape[:2]
    return make(
        "sensor_msgs/msg/Image", header=header(stamp), height=height, width=width, encoding="rgb8", is_bigendian=0,
        step=width * 3, data=np.ascontiguousarray(pixels).reshape(-1),
    )  # fmt: skip


def info(stamp, pinhole, lens=(0.0,) * 5):
    region = make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    k = pinhole.matrix().double().numpy()
    return make(
        "sensor_msgs/msg/CameraInfo", header=header(stamp), height=pinhole.height, width=pinhole.width,
        distortion_model="plumb_bob", d=np.array(lens), k=k.flatten(), r=np.eye(3).flatten(),
        p=np.column_stack([k, np.zeros(3)]).flatten(), binning_x=0, binning_y=0, roi=region,
    )  # fmt: skip


@pytest.fixture
def drive(tmp_path):
    """Five grey frames, 8x6, of rising brightness, with poses that step a metre to the right each."""
    topics = camera(5)
    for number, frame in enumerate(topics["/cam/image"]):
        frame.data[:] = 40 * number
    return topics | {"/odom": [odometry(s, (float(i), 0.0, 0.0)) for i, s in enumerate(STAMPS)]}


def load(path, **changes):
    return load_clip(ClipConfig(path, **{"width": 32, "height": 32, **changes}))


def brightness(clip):
    return clip.images[:, 0, 0, 0].tolist()


def test_a_bag_of_the_synthetic_world_comes_at_working_size(tmp_path):
    pinhole = PinholeCamera(160, 120, 130.0, 132.0, 75.0, 62.0)
    world = SyntheticWorld(WorldConfig("room", 3, pinhole))
    frames = [world.render(i / 10) for i in range(3)]
    write_bag(tmp_path / "drive", iter(frames), 3)
    clip = load(tmp_path / "drive", width=96, height=64)
    assert len(clip) == 3
    assert clip.name == "drive"
    assert clip.images.shape == (3, 3, 64, 96)
    assert clip.images.dtype == torch.uint8
    assert clip.stamps.tolist() == [1_700_000_000 * 10**9 + i * 10**8 for i in range(3)]
    assert clip.names == [str(s) for s in clip.stamps]
    assert clip.camera == pinhole.resized(96, 64)
    assert clip.camera.fx == pytest.approx(130 * 96 / 160)
    assert clip.camera.fy == pytest.approx(132 * 64 / 120), "each axis by its own factor"
    assert clip.poses is None
    assert clip.depth is None
    small = cv2.resize(frames[1].image.permute(1, 2, 0).numpy(), (96, 64), interpolation=cv2.INTER_AREA)
    assert np.abs(clip.images[1].permute(1, 2, 0).numpy() / 255 - small).max() < 0.01, "RGB, in order"
    assert [g.shape for g in clip.tracking] == [(120, 160)] * 3, "small pictures are not blown up"
    assert clip.tracking_camera == pinhole


def test_tracking_images_stop_at_their_width_and_can_be_left_out(tmp_path):
    pixels = np.zeros((600, 1000, 3), np.uint8)
    pinhole = PinholeCamera(1000, 600, 800.0, 800.0, 499.5, 299.5)
    path = write(tmp_path / "bag", {"/image": [picture(s, pixels) for s in STAMPS], "/camera_info": [info(0, pinhole)]})
    clip = load(path)
    assert clip.tracking[0].shape == (384, TRACKING_WIDTH)
    assert clip.tracking_camera.fx == pytest.approx(800 * 0.64)
    bare = load_clip(ClipConfig(path, 32, 32), tracking=False)
    assert bare.tracking == []
    assert bare.tracking_camera is None


def test_a_folder_needs_a_field_of_view(tmp_path):
    for number in range(4):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((30, 40, 3), 10 * number, np.uint8))
    with pytest.raises(ClipError, match="has no camera_info; give the field of view with hfov, degrees"):
        load(tmp_path)
    clip = load(tmp_path, hfov=90.0)
    assert clip.names == ["0", "1", "2", "3"]
    assert brightness(clip) == [0, 10, 20, 30]
    assert clip.camera.fx == pytest.approx(16), "half the width at 90 degrees"
    assert clip.camera.fy == pytest.approx(20 * 32 / 30)


def test_a_distorted_camera_is_rectified(tmp_path):
    pinhole = PinholeCamera(160, 128, 130.0, 130.0, 79.5, 63.5)
    plain, bent = (
        SyntheticWorld(WorldConfig("room", 8, pinhole, lens, noise=0, blur=1.0)).render(0.0)
        for lens in ((0.0,) * 5, LENS)
    )
    pixels = [(f.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for f in (plain, bent)]
    topics = {"/image": [picture(s, pixels[1]) for s in STAMPS], "/camera_info": [info(0, pinhole, LENS)]}
    clip = load(write(tmp_path / "bag", topics), width=160, height=128)
    assert clip.camera == pinhole

    def off(found, wanted):
        return np.abs(found.astype(float) - wanted)[16:-16, 16:-16].mean()

    straight = clip.images[2].permute(1, 2, 0).numpy()
    assert off(straight, pixels[0]) < 0.25 * off(pixels[1], pixels[0])
    grey = cv2.cvtColor(pixels[0], cv2.COLOR_RGB2GRAY)
    assert off(clip.tracking[2], grey) < 0.25 * off(cv2.cvtColor(pixels[1], cv2.COLOR_RGB2GRAY), grey)


def test_frames_of_a_rectified_camera_do_not_share_memory(tmp_path):
    """The rectifier hands out the same buffer each time."""
    pinhole = PinholeCamera(32, 32, 30.0, 30.0, 15.5, 15.5)
    frames = [picture(s, np.full((32, 32, 3), 50 * i, np.uint8)) for i, s in enumerate(STAMPS)]
    clip = load(write(tmp_path / "bag", {"/image": frames, "/camera_info": [info(0, pinhole, LENS)]}))
    assert clip.images[:, 0, 16, 16].tolist() == [0, 50, 100, 150, 200]
    assert [int(g[16, 16]) for g in clip.tracking] == [0, 50, 100, 150, 200]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [(0, None, range(5)), (1, 4, range(1, 4)), (-3, None, range(2, 5)), (0, -1, range(4)), (-9, 99, range(5)), (2, None, range(2, 5))],
)  # fmt: skip
def test_slices_are_as_in_python(tmp_path, drive, first, last, expected):
    clip = load(write(tmp_path / "bag", drive), first=first, last=last, odometry="auto")
    assert brightness(clip) == [40 * i for i in expected]
    assert clip.stamps.tolist() == [STAMPS[i] for i in expected]
    assert clip.poses[:, 0, 3] == pytest.approx(list(expected)), "poses go with their frames"


@pytest.mark.parametrize(("first", "last"), [(3, None), (2, 4), (4, 1), (9, None), (0, 0), (0, -9)])
def test_too_few_frames_say_how_many(tmp_path, drive, first, last):
    with pytest.raises(ClipError, match=r"bag gives [012] frames; training needs at least three in a row"):
        load(write(tmp_path / "bag", drive), first=first, last=last)


def test_frames_after_the_slice_are_not_read(tmp_path, drive):
    drive["/cam/image"][3] = image(STAMPS[3], "odd")
    path = write(tmp_path / "bag", drive)
    assert len(load(path, last=3)) == 3
    with pytest.raises(BagError, match="frame 3: unknown image encoding 'odd'"):
        load(path)


def test_a_camera_that_changes_its_size_is_refused(tmp_path, drive):
    drive["/cam/image"][3] = picture(STAMPS[3], np.zeros((12, 16, 3), np.uint8))
    with pytest.raises(ClipError, match="frame 3 is 16x12, the camera is 8x6"):
        load(write(tmp_path / "bag", drive))


def test_a_camera_info_of_another_size_is_refused_or_replaced(tmp_path, drive):
    drive["/cam/camera_info"] = [info(0, PinholeCamera(80, 60, 50.0, 50.0, 39.5, 29.5))]
    path = write(tmp_path / "bag", drive)
    with pytest.raises(ClipError, match="has a camera_info for 80x60 images; give the field of view"):
        load(path)
    assert load(path, hfov=90).camera.fx == pytest.approx(16)


def test_camera_info_is_believed_before_hfov(tmp_path, drive):
    assert load(write(tmp_path / "bag", drive), hfov=90).camera.fx == pytest.approx(50 * 32 / 8)


@pytest.mark.parametrize("topic", ["auto", "/odom"])
def test_odometry_gives_motions_between_frames(tmp_path, drive, topic):
    clip = load(write(tmp_path / "bag", drive), odometry=topic)
    assert clip.pose_known.all()
    # The camera goes right, so points go left.
    np.testing.assert_allclose(clip.motion(1, 3)[:3, 3], (-2, 0, 0), atol=1e-9)
    np.testing.assert_allclose(clip.motion(3, 1) @ clip.motion(1, 3), np.eye(4), atol=1e-9)


def test_frames_before_odometry_starts_have_no_motion(tmp_path, drive):
    drive["/odom"] = drive["/odom"][2:]
    clip = load(write(tmp_path / "bag", drive), odometry="/odom")
    assert clip.pose_known.tolist() == [False, False, True, True, True]
    assert clip.motion(1, 2) is None
    assert clip.motion(2, 3) is not None


def test_a_clip_without_odometry_knows_no_motion(tmp_path, drive):
    assert load(write(tmp_path / "bag", drive)).motion(0, 1) is None


@pytest.mark.parametrize("topic", ["auto", "/odom"])
def test_odometry_of_another_body_is_refused_by_name(tmp_path, drive, topic):
    drive["/odom"] = [odometry(s, (0.0, 0.0, 0.0), body="base_link") for s in STAMPS]
    with pytest.raises(ClipError, match=r"/odom tells where 'base_link' is, the images come from 'cam'") as error:
        load(write(tmp_path / "bag", drive), odometry=topic)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("body", ["cam", "/cam", ""])
def test_the_same_body_by_another_spelling_is_taken(tmp_path, drive, body):
    drive["/odom"] = [odometry(s, (0.0, 0.0, 0.0), body=body) for s in STAMPS]
    assert load(write(tmp_path / "bag", drive), odometry="auto").pose_known.all()


@pytest.mark.parametrize("topic", ["auto", "/odom"])
def test_odometry_of_another_time_is_refused(tmp_path, drive, topic):
    drive["/odom"] = [odometry(s + 10**12, (0.0, 0.0, 0.0)) for s in STAMPS]
    with pytest.raises(ClipError, match="/odom covers none of the images' times"):
        load(write(tmp_path / "bag", drive), odometry=topic)


def test_auto_needs_one_candidate(tmp_path, drive):
    two = drive | {"/pose": [stamped(s, (0.0, 0.0, 0.0)) for s in STAMPS]}
    with pytest.raises(ClipError, match=r"name the odometry topic; candidates are /odom, /pose"):
        load(write(tmp_path / "two", two), odometry="auto")
    del drive["/odom"]
    with pytest.raises(ClipError, match=r"name the odometry topic; candidates are none"):
        load(write(tmp_path / "none", drive), odometry="auto")


def test_odometry_of_a_folder_is_refused_in_one_line(tmp_path):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((30, 40, 3), np.uint8))
    with pytest.raises(SsmdeError, match=str(tmp_path)) as error:
        load(tmp_path, hfov=90.0, odometry="auto")
    assert "\n" not in str(error.value)


def test_nothing_there_says_so(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 100}, "multiples of 32, got 100x32"),
        ({"height": 0}, "multiples of 32, got 32x0"),
        ({"width": -32}, "multiples of 32"),
        ({"hfov": 180.0}, "hfov must lie in"),
        ({"hfov": -1.0}, "hfov must lie in"),
        ({"hfov": float("nan")}, "hfov must lie in"),
    ],
)
def test_impossible_settings_are_refused(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words):
        ClipConfig(tmp_path, **{"width": 32, "height": 32, **changes})


def test_motion_is_unknown_where_either_pose_is():
    poses = np.stack([np.eye(4)] * 3)
    clip = Clip(
        "x", torch.zeros(3, 3, 32, 32, dtype=torch.uint8), PinholeCamera(32, 32, 30.0, 30.0, 15.5, 15.5),
        np.arange(3), ["0", "1", "2"], poses=poses, pose_known=np.array([True, True, False]),
    )  # fmt: skip
    assert clip.motion(0, 1) is not None
    assert clip.motion(0, 2) is None
    assert clip.motion(2, 0) is None


def test_a_video_is_read_too(tmp_path):
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no video")
    for number in range(6):
        writer.write(np.full((48, 64, 3), 40 * number, np.uint8))
    writer.release()
    clip = load(path, hfov=60.0, first=1, last=-1)
    assert clip.name == "film"
    assert clip.names == ["000001", "000002", "000003", "000004"]
    assert clip.stamps.tolist() == [10**8, 2 * 10**8, 3 * 10**8, 4 * 10**8]
    assert brightness(clip) == pytest.approx([40, 80, 120, 160], abs=3)
