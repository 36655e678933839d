from dataclasses import replace

import cv2
import numpy as np
import pytest

from ssmde_ros.data.stereo import StereoConfig, stereo
from ssmde_ros.data.synthetic import SyntheticWorld, WorldConfig
from ssmde_ros.geometry import PinholeCamera

CAMERA = PinholeCamera(320, 256, 260.0, 264.0, 158.0, 129.0)
K = CAMERA.matrix().double().numpy()
FAR, NEAR = 4.0, 2.0  # metres to the wall, and to the picture that hangs before it
PICTURE = (slice(60, 200), slice(120, 200))  # rows and columns of it in the first view

MOTIONS = {
    "right": ((0, 0, 0), (-0.3, 0, 0)),
    "left": ((0, 0, 0), (0.3, 0, 0)),
    "up": ((0, 0, 0), (0, 0.3, 0)),
    "down": ((0, 0, 0), (0, -0.3, 0)),
    "turning": ((0.02, -0.03, 0.05), (-0.2, 0.2, 0.1)),
}


def pose(turn=(0, 0, 0), shift=(0, 0, 0)):
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = cv2.Rodrigues(np.asarray(turn, float))[0], shift
    return motion


def texture(height, width, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)
    # No black: the matcher's margin is black.
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, 20, 255, cv2.NORM_MINMAX)


@pytest.fixture(scope="module")
def plaster():
    return texture(1200, 1200)


def wall(plaster, motion, z=FAR):
    """View b of a wall that view a faces squarely at depth z; exact, being a plane."""
    on_wall = np.array([[1 / 60, 0, -10], [0, 1 / 60, -10], [0, 0, z]])  # metres of a pixel of the plaster, frame a
    image = K @ (motion[:3, :3] @ on_wall + np.outer(motion[:3, 3], [0, 0, 1]))
    return cv2.warpPerspective(plaster, image, (CAMERA.width, CAMERA.height), flags=cv2.INTER_AREA)


def hung(plaster, motion):
    """The same with a picture before it; travel is sideways, by whole pixels of the picture."""
    image = wall(plaster, motion)
    rows, columns = PICTURE
    shift = CAMERA.fx * motion[0, 3] / NEAR
    assert shift == pytest.approx(round(shift))
    columns = slice(columns.start + round(shift), columns.stop + round(shift))
    image[rows, columns] = texture(rows.stop - rows.start, columns.stop - columns.start, seed=1)
    return image


def pixels(points):
    return points * [CAMERA.fx, CAMERA.fy] + [CAMERA.cx, CAMERA.cy]


@pytest.mark.parametrize("name", MOTIONS)
def test_a_wall_is_flat_and_as_far_as_it_is(plaster, name):
    motion = pose(*MOTIONS[name])
    found = stereo(wall(plaster, np.eye(4)), wall(plaster, motion), CAMERA, motion, NEAR)
    errors = np.abs(found.depth_a / FAR - 1)
    assert np.median(errors) < 0.015, "a quarter of a pixel of twenty"
    assert np.quantile(errors, 0.98) < 0.05
    assert len(errors) > 3000, "of 5120 on the grid; some leave the picture"
    assert found.motion is motion
    assert found.inliers == pytest.approx(len(errors) / 5120)
    assert found.parallax == pytest.approx(0.3 / FAR, rel=0.05), "the rectified cameras look a little aside"


@pytest.mark.parametrize("name", MOTIONS)
def test_both_views_tell_of_the_same_points(plaster, name):
    motion = pose(*MOTIONS[name])
    found = stereo(wall(plaster, np.eye(4)), wall(plaster, motion), CAMERA, motion, NEAR)
    points = np.column_stack([found.points_a, np.ones(len(found.points_a))]) * found.depth_a[:, None]
    moved = points @ motion[:3, :3].T + motion[:3, 3]
    np.testing.assert_allclose(moved[:, :2] / moved[:, 2:], found.points_b, atol=1e-12)
    np.testing.assert_allclose(moved[:, 2], found.depth_b)
    assert (found.depth_a > 0).all()
    assert (found.depth_b > 0).all()


@pytest.mark.parametrize("name", MOTIONS)
def test_the_way_back_tells_the_same_wall(plaster, name):
    motion = pose(*MOTIONS[name])
    found = stereo(wall(plaster, motion), wall(plaster, np.eye(4)), CAMERA, np.linalg.inv(motion), NEAR).swapped()
    assert len(found.depth_a) > 3000
    assert np.median(np.abs(found.depth_a / FAR - 1)) < 0.015
    np.testing.assert_allclose(found.motion, motion, atol=1e-12)


def test_depth_comes_in_units_of_the_translation(plaster):
    motion, unit = pose(*MOTIONS["turning"]), pose(*MOTIONS["turning"])
    length = np.linalg.norm(motion[:3, 3])
    unit[:3, 3] /= length
    images = wall(plaster, np.eye(4)), wall(plaster, motion)
    metres, units = stereo(*images, CAMERA, motion, NEAR), stereo(*images, CAMERA, unit, NEAR / length)
    np.testing.assert_allclose(units.depth_a * length, metres.depth_a)
    np.testing.assert_allclose(units.points_b, metres.points_b)


@pytest.mark.parametrize(
    ("shift", "sighted"), [((0, 0, -0.3), False), ((-0.3, 0, -0.2), True), ((-0.2, 0, -0.3), False)]
)
@pytest.mark.parametrize("turn", [(0, 0, 0), (0, 0.05, 0.02)])
def test_travel_along_the_line_of_sight_is_refused(plaster, shift, sighted, turn):
    motion = pose(turn, shift)
    images = wall(plaster, np.eye(4)), wall(plaster, motion)
    for there, pair in ((motion, images), (np.linalg.inv(motion), images[::-1])):
        assert (stereo(*pair, CAMERA, there, NEAR) is not None) == sighted
        assert stereo(*pair, CAMERA, there, NEAR, StereoConfig(most_forward=0.0)) is None


def test_a_camera_that_stands_is_refused(plaster):
    image = wall(plaster, np.eye(4))
    for motion in (np.eye(4), pose((0.0, 0.1, 0.0))):
        assert stereo(image, image, CAMERA, motion, NEAR) is None


def test_equal_pictures_have_no_depth(plaster):
    """They would put the wall at infinity."""
    image = wall(plaster, np.eye(4))
    found = stereo(image, image, CAMERA, pose(shift=(-0.3, 0, 0)), NEAR)
    assert len(found.depth_a) < 50
    far = wall(plaster, pose(shift=(-0.3, 0, 0)), z=100.0)
    found = stereo(wall(plaster, np.eye(4), z=100.0), far, CAMERA, pose(shift=(-0.3, 0, 0)), NEAR)
    assert len(found.depth_a) < 50, "less than two pixels"


@pytest.mark.parametrize("value", [0, 90, 255])
def test_blank_pictures_have_no_depth(value):
    blank = np.full((256, 320), value, np.uint8)
    found = stereo(blank, blank, CAMERA, pose(shift=(-0.3, 0, 0)), NEAR)
    assert [len(x) for x in (found.points_a, found.points_b, found.depth_a, found.depth_b)] == [0, 0, 0, 0]
    assert (found.inliers, found.parallax) == (0, 0)


def test_pictures_of_different_things_have_hardly_any_depth():
    a, b = np.random.default_rng(0).integers(1, 256, (2, 256, 320), dtype=np.uint8)
    found = stereo(a, b, CAMERA, pose(shift=(-0.3, 0, 0)), NEAR)
    assert found.inliers < 0.1


@pytest.mark.parametrize("name", ["right", "left", "up", "down"])
def test_points_outside_the_other_picture_are_dropped(plaster, name):
    turn, shift = MOTIONS[name]
    motion = pose(turn, np.multiply(shift, 4))  # 78 pixels
    found = stereo(wall(plaster, np.eye(4)), wall(plaster, motion), CAMERA, motion, NEAR + 1)
    assert len(found.depth_a) > 2000
    here, there = pixels(found.points_a), pixels(found.points_b)
    size = np.array([CAMERA.width, CAMERA.height])
    for image in (here, there):
        assert (image >= 0).all()
        assert (image <= size - 1).all()
    # The strip that only the first view sees is nearly empty, and only that.
    rows, columns = np.mgrid[2:256:4, 2:320:4]
    moved = (np.stack([columns.ravel(), rows.ravel()], 1) - K[:2, 2]) / [CAMERA.fx, CAMERA.fy] + motion[:2, 3] / FAR
    moved = pixels(moved)
    shared = ((moved > 8) & (moved < size - 9)).all(1).sum()
    moved = pixels(found.points_a + motion[:2, 3] / FAR)
    hidden = ((moved < 0) | (moved > size - 1)).any(1)
    assert hidden.mean() < 0.02
    assert (~hidden).sum() > 0.9 * shared


@pytest.mark.parametrize("way", [-4, 4])
def test_an_edge_stays_where_it_is(plaster, way):
    motion = pose(shift=(way * 10 * NEAR / CAMERA.fx, 0, 0))  # the picture moves by 40 pixels, the wall by 20
    found = stereo(hung(plaster, np.eye(4)), hung(plaster, motion), CAMERA, motion, 1.5)
    u, v = pixels(found.points_a).round().astype(int).T
    rows, columns = PICTURE
    on = (u >= columns.start) & (u < columns.stop) & (v >= rows.start) & (v < rows.stop)
    wrong = np.abs(found.depth_a / np.where(on, NEAR, FAR) - 1) > 0.1
    assert on.sum() > 500
    assert wrong.mean() < 0.02
    beside = [np.abs(u[wrong] - edge) for edge in (columns.start, columns.stop - 1)]
    above = [np.abs(v[wrong] - edge) for edge in (rows.start, rows.stop - 1)]
    off = np.min([*beside, *above], 0)
    assert np.quantile(off, 0.8) <= 4, "pixels"


def test_the_search_reaches_the_nearest_depth(plaster):
    motion = pose(shift=(-0.3, 0, 0))
    images = wall(plaster, np.eye(4), z=NEAR), wall(plaster, motion, z=NEAR)  # 39 pixels
    for nearest in (1.9, 1.0, 0.0):  # the last is as near as there is room to search
        found = stereo(*images, CAMERA, motion, nearest)
        assert found.inliers > 0.5
        assert np.median(np.abs(found.depth_a / NEAR - 1)) < 0.01


def test_the_grid_is_that_of_the_config(plaster):
    motion = pose(shift=(-0.3, 0, 0))
    images = wall(plaster, np.eye(4)), wall(plaster, motion)
    found = stereo(*images, CAMERA, motion, NEAR, StereoConfig(grid=8))
    u, v = pixels(found.points_a).T
    np.testing.assert_allclose(u % 8, 4, atol=1e-6)
    np.testing.assert_allclose(v % 8, 4, atol=1e-6)
    all_of = stereo(*images, CAMERA, motion, NEAR)
    assert len(found.depth_a) == pytest.approx(len(all_of.depth_a) / 4, rel=0.05)


def test_a_lens_of_unequal_focal_lengths_tells_the_same_depth(plaster):
    stretched = replace(CAMERA, height=384, fy=CAMERA.fy * 1.5, cy=(CAMERA.cy + 0.5) * 1.5 - 0.5)
    for name in ("right", "up"):
        motion = pose(*MOTIONS[name])
        images = [cv2.resize(wall(plaster, m), (320, 384)) for m in (np.eye(4), motion)]
        found = stereo(*images, stretched, motion, NEAR)
        assert len(found.depth_a) > 3000
        assert np.median(np.abs(found.depth_a / FAR - 1)) < 0.02


@pytest.fixture(scope="module", params=[("room", 0), ("room", 1), ("street", 0)])
def travelled(request):
    """For a drawn scene: its still camera's frame and depth, and a function that renders it from elsewhere."""
    kind, seed = request.param
    world = SyntheticWorld(WorldConfig(kind, seed, CAMERA))
    path = replace(world.scene.path, velocity=(0.0, 0.0, 0.0), yaw_rate=0.0, shake=0.0, sway=0.0)
    world.scene.path = path
    first = world.render(0.0)
    turn = first.pose[:3, :3].double().numpy()
    length = {"room": 0.1, "street": 0.3}[kind]

    def go(direction):
        velocity = tuple(float(x) for x in turn @ direction * length)
        world.scene.path = replace(path, velocity=velocity, yaw_rate=0.03)
        frame = world.render(1.0)
        motion = np.linalg.inv(frame.pose.double().numpy()) @ first.pose.double().numpy()
        return grey(frame), motion

    return grey(first), first.depth[0].double().numpy(), go


def grey(frame):
    return cv2.cvtColor((frame.image * 255).round().byte().permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY)


@pytest.mark.parametrize("direction", [(1, 0, 0), (0, -1, 0), (-0.7, 0.6, 0.4)])
def test_a_scene_is_as_deep_as_it_is(travelled, direction):
    image, depth, go = travelled
    other, motion = go(np.array(direction, float))
    found = stereo(image, other, CAMERA, motion, 0.5 * np.quantile(depth, 0.02))
    u, v = pixels(found.points_a).round().astype(int).T
    errors = np.abs(found.depth_a / depth[v, u] - 1)
    assert len(errors) > 1500
    assert np.median(errors) < 0.06


def test_a_scene_ahead_is_refused(travelled):
    image, _, go = travelled
    other, motion = go(np.array([0.1, 0.0, 1.0]))
    assert stereo(image, other, CAMERA, motion, 1.0) is None
