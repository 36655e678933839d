import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ssmde_ros.geometry import TwoViewConfig, structure, two_view
from ssmde_ros.geometry.two_view import refine_motion, relative_motion, triangulate

PIXEL = 1 / 500  # of a camera with 500 pixels of focal length
seeds = st.integers(0, 10_000)


def pose(turn=(0, 0, 0), shift=(0, 0, 0)):
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = cv2.Rodrigues(np.asarray(turn, float))[0], shift
    return motion


def drawn_motion(rng, turn=0.05, length=1.0):
    shift = rng.normal(size=3)
    return pose(rng.normal(0, turn, 3), length * shift / np.linalg.norm(shift))


def seen(rng, motion, count=300, near=2.0, far=8.0, noise=0.0, outliers=0.0):
    """Matches `[N, 2]` of points in front of both cameras, and the points `[N, 3]` in frame a."""
    z = rng.uniform(near, far, count)
    points = np.column_stack([rng.uniform(-0.5, 0.5, (count, 2)) * z[:, None], z])
    moved = points @ motion[:3, :3].T + motion[:3, 3]
    assert (moved[:, 2] > 0).all()
    a, b = points[:, :2] / points[:, 2:], moved[:, :2] / moved[:, 2:]
    a, b = a + rng.normal(0, noise, a.shape), b + rng.normal(0, noise, b.shape)
    wrong = rng.random(count) < outliers
    b[wrong] = rng.uniform(-0.6, 0.6, (wrong.sum(), 2))
    return a, b, points, wrong


def truth_at(kept, a, points):
    """True depth of the matches that were kept."""
    return points[np.abs(a[:, None] - kept).sum(2).argmin(0), 2]


def turned(a, b):
    """Degrees between two rotations."""
    return np.degrees(np.linalg.norm(cv2.Rodrigues(a[:3, :3].T @ b[:3, :3])[0]))


def between(a, b):
    """Degrees between two directions of travel; the sign counts."""
    a, b = a[:3, 3], b[:3, 3]
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b))


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_clean_matches_tell_the_motion_up_to_its_length(seed):
    rng = np.random.default_rng(seed)
    motion = drawn_motion(rng)
    a, b, _, _ = seen(rng, motion)
    found, agree = relative_motion(a, b)
    assert agree.mean() > 0.99
    assert turned(found, motion) < 0.01
    assert between(found, motion) < 0.05
    assert np.linalg.norm(found[:3, 3]) == pytest.approx(1)
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
@example(seed=974)  # RANSAC holds on to less than half of what agrees
def test_noise_and_outliers_cost_a_fraction_of_a_degree(seed):
    rng = np.random.default_rng(seed)
    motion = drawn_motion(rng)
    a, b, _, wrong = seen(rng, motion, noise=0.3 * PIXEL, outliers=0.3)
    found, agree = relative_motion(a, b)
    assert turned(found, motion) < 0.4
    assert between(found, motion) < 2
    assert agree[~wrong].mean() > 0.9
    assert agree[wrong].mean() < 0.2, "some lie on their line by chance"


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_travel_of_a_hundredth_of_the_depth_is_told_with_its_sign(seed):
    """OpenCV's own choice among the four decompositions counts no point beyond 50 baselines."""
    rng = np.random.default_rng(seed)
    motion = drawn_motion(rng)
    a, b, _, _ = seen(rng, motion, near=60, far=90)
    found, agree = relative_motion(a, b)
    assert agree.mean() > 0.99
    assert turned(found, motion) < 0.01
    assert between(found, motion) < 0.1


def test_the_same_matches_give_the_same_motion():
    rng = np.random.default_rng(1)
    a, b, _, _ = seen(rng, drawn_motion(rng), noise=0.3 * PIXEL, outliers=0.3)
    assert np.array_equal(relative_motion(a, b)[0], relative_motion(a, b)[0])


@settings(max_examples=25, deadline=None)
@given(seed=seeds, length=st.floats(1e-3, 5))
def test_triangulation_undoes_projection(seed, length):
    rng = np.random.default_rng(seed)
    motion = drawn_motion(rng, length=length)
    a, b, points, _ = seen(rng, motion, near=6, far=20)
    found, error = triangulate(a, b, motion)
    np.testing.assert_allclose(found, points, rtol=1e-4)
    assert error.max() < 1e-9


def test_points_behind_either_camera_have_an_infinite_error():
    motion = pose(shift=(0.0, 0.0, -3.0))  # the second camera stands three metres ahead
    points = np.array([[0.4, 0.1, 5.0], [0.4, 0.1, 2.0], [0.4, 0.1, -2.0], [0.3, 0.2, 3.0 - 1e-9]])
    moved = points + np.array([0, 0, -3.0])
    with np.errstate(all="raise"):
        _, error = triangulate(points[:, :2] / points[:, 2:], moved[:, :2] / moved[:, 2:], motion)
    assert error[0] < 1e-9
    assert np.isinf(error[1:3]).all()
    assert not np.isnan(error).any()


def test_parallel_rays_meet_nowhere_and_say_so_without_nan():
    a = np.array([[0.0, 0.0], [0.2, 0.1]])
    points, error = triangulate(a, a, pose(shift=(1.0, 0.0, 0.0)))
    far = ~np.isfinite(error) | (points[:, 2] > 1e6)
    assert far.all()
    assert not np.isnan(error).any()


@settings(max_examples=25, deadline=None)
@given(seed=seeds, length=st.floats(1e-4, 50), noisy=st.booleans())
def test_a_known_motion_a_degree_off_is_put_right_at_its_own_length(seed, length, noisy):
    """Units are the caller's: the same happens at a tenth of a millimetre and at fifty metres."""
    rng = np.random.default_rng(seed)
    motion = drawn_motion(rng, length=length)
    noise = {"noise": 0.3 * PIXEL, "outliers": 0.3} if noisy else {}
    a, b, points, wrong = seen(rng, motion, near=4 * length, far=16 * length, **noise)
    axis = rng.normal(size=3)
    off = pose(np.radians(1) * axis / np.linalg.norm(axis)) @ motion
    off[:3, 3] = motion[:3, 3]
    found = two_view(a, b, off)
    assert np.linalg.norm(found.motion[:3, 3]) == pytest.approx(length, rel=1e-9)
    assert turned(found.motion, motion) < (0.3 if noisy else 0.05)
    assert between(found.motion, motion) < (3 if noisy else 0.5)
    if not noisy:
        assert found.inliers > 0.99
        # All are kept, or those whose depth can be told.
        assert len(found.depth_a) > 200
        np.testing.assert_allclose(found.depth_a, truth_at(found.points_a, a, points), rtol=0.1)
    else:
        assert found.inliers == pytest.approx(1 - wrong.mean(), abs=0.12)


def test_a_perfect_motion_stays():
    rng = np.random.default_rng(3)
    motion = drawn_motion(rng)
    a, b, _, _ = seen(rng, motion)
    np.testing.assert_allclose(refine_motion(a, b, motion, TwoViewConfig()), motion, atol=1e-8)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, count=st.integers(24, 200))
def test_matches_that_agree_with_nothing_do_not_bend_a_known_motion(seed, count):
    rng = np.random.default_rng(seed)
    motion = drawn_motion(rng)
    a, b = rng.uniform(-0.5, 0.5, (2, count, 2))
    found = two_view(a, b, motion)
    np.testing.assert_array_equal(found.motion, motion)
    assert found.inliers < 0.2


@settings(max_examples=15, deadline=None)
@given(seed=seeds, known=st.booleans())
def test_both_depths_are_of_the_same_points(seed, known):
    rng = np.random.default_rng(seed)
    motion = drawn_motion(rng, length=0.3 if known else 1.0)
    a, b, _, _ = seen(rng, motion, noise=0.3 * PIXEL, outliers=0.2)
    found = two_view(a, b, motion if known else None)
    points = np.column_stack([found.points_a, np.ones(len(found.points_a))]) * found.depth_a[:, None]
    moved = points @ found.motion[:3, :3].T + found.motion[:3, 3]
    assert len(points) > 100
    assert (found.depth_a > 0).all()
    assert (found.depth_b > 0).all()
    np.testing.assert_allclose(moved[:, :2] / moved[:, 2:], found.points_b, atol=2 * TwoViewConfig().reprojection)
    np.testing.assert_allclose(moved[:, 2], found.depth_b, rtol=0.05)
    # Seen from the other side it is the same.
    back = two_view(b, a, np.linalg.inv(motion) if known else None)
    assert turned(back.motion @ found.motion, np.eye(4)) < 0.3


@pytest.mark.parametrize("count", [0, 1, 7, 23])
@pytest.mark.parametrize("known", [False, True])
def test_too_few_matches_determine_nothing(count, known):
    rng = np.random.default_rng(0)
    motion = drawn_motion(rng)
    a, b, _, _ = seen(rng, motion, max(count, 1))
    assert two_view(a[:count], b[:count], motion if known else None) is None
    assert relative_motion(a[:count], b[:count]) is None


@pytest.mark.parametrize("wrong", [0.8, 1.0])
def test_mostly_wrong_matches_determine_nothing(wrong):
    rng = np.random.default_rng(5)
    a, b, _, _ = seen(rng, drawn_motion(rng), outliers=wrong)
    assert two_view(a, b) is None


@pytest.mark.parametrize("noise", [0, 0.3 * PIXEL])
@pytest.mark.parametrize("outliers", [0, 0.3])
@pytest.mark.parametrize("seed", range(8))
def test_a_camera_that_only_turns_gives_no_translation(noise, outliers, seed):
    rng = np.random.default_rng(seed)
    a, b, _, _ = seen(rng, pose(rng.normal(0, 0.08, 3)), noise=noise, outliers=outliers)
    assert two_view(a, b) is None


@pytest.mark.parametrize("seed", range(8))
def test_an_object_before_a_camera_at_rest_is_not_taken_for_the_world(seed):
    rng = np.random.default_rng(seed)
    a, b, _, _ = seen(rng, np.eye(4), noise=0.3 * PIXEL)
    b[:60] += [0.03, 0.005]
    assert two_view(a, b) is None
    # Odometry that trembles by a millimetre may give the object no depth of centimetres either.
    trembling = pose(shift=rng.normal(0, 1e-3, 3))
    found = two_view(a, b, trembling)
    assert len(found.depth_a) == 0
    assert turned(found.motion, trembling) < 0.2


def test_a_known_motion_without_travel_gives_no_depth():
    rng = np.random.default_rng(2)
    turn = pose((0.01, 0.05, 0))
    a, b, _, _ = seen(rng, turn)
    assert two_view(a, b, turn) is None
    assert two_view(a, b, np.eye(4)) is None


def test_identical_points_are_no_motion():
    a = np.random.default_rng(0).uniform(-0.5, 0.5, (100, 2))
    assert two_view(a, a) is None
    assert two_view(np.zeros((100, 2)), np.zeros((100, 2))) is None


def test_settled_motion_gives_structure_and_stays():
    rng = np.random.default_rng(6)
    motion = drawn_motion(rng)
    a, b, points, wrong = seen(rng, motion, outliers=0.2)
    found = structure(a, b, motion)
    assert found.motion is motion
    assert found.inliers == pytest.approx(1 - wrong.mean(), abs=0.05)
    np.testing.assert_allclose(np.median(found.depth_a / truth_at(found.points_a, a, points)), 1, atol=1e-6)


def test_no_matches_have_no_structure():
    found = structure(np.zeros((0, 2)), np.zeros((0, 2)), pose(shift=(1, 0, 0)))
    assert len(found.depth_a) == len(found.depth_b) == len(found.points_a) == 0
    assert (found.inliers, found.parallax) == (0, 0)


def test_far_points_are_not_kept():
    """Their parallax is noise."""
    rng = np.random.default_rng(4)
    motion = pose(shift=(-0.2, 0.0, 0.0))
    near, far = seen(rng, motion, 150, 2, 5), seen(rng, motion, 100, 200, 400)
    a, b = np.concatenate([near[0], far[0]]), np.concatenate([near[1], far[1]])
    found = two_view(a, b, motion)
    assert len(found.depth_a) == 150
    assert found.depth_a.max() < 5.1
    assert found.inliers > 0.99


@settings(max_examples=40, deadline=None)
@given(
    seed=seeds, turn=st.floats(0, 0.3), length=st.sampled_from([0, 1e-9, 1e-5, 1e-2, 1.0]), known=st.booleans(),
    noise=st.sampled_from([0, 0.3, 3]), count=st.integers(20, 120),
)  # fmt: skip
def test_no_input_makes_nan(seed, turn, length, known, noise, count):
    rng = np.random.default_rng(seed)
    motion = drawn_motion(rng, turn, length)
    a, b, _, _ = seen(rng, motion, count, noise=noise * PIXEL)
    found = two_view(a, b, motion if known else None)
    if found is None:
        return
    for values in (found.motion, found.points_a, found.points_b, found.depth_a, found.depth_b):
        assert np.isfinite(values).all()
    assert (found.depth_a > 0).all()
    assert (found.depth_b > 0).all()
    assert 0 <= found.inliers <= 1
    assert np.isfinite(found.parallax)
    assert np.linalg.det(found.motion[:3, :3]) == pytest.approx(1)
