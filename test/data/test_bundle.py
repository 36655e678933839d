"""Points from known poses, and poses and points put right together."""

import numpy as np
import pytest
from hypothesis import given, settings

from ssmde_ros.data.bundle import BundleConfig, adjust
from ssmde_ros.data.multi_view import Piece, fitting, reprojection, triangulated
from ssmde_ros.data.tracks import Track
from test.data.walks import (
    FRAMES,
    PIXEL,
    by_frame,
    drifting,
    fitted,
    pose,
    seeds,
    shaken,
    step_errors,
    things,
    tracked,
    walk,
)


@pytest.fixture(scope="module")
def world():
    """Points, poses and exact tracks of a walk."""
    rng = np.random.default_rng(0)
    points, poses = things(rng, 200), walk()
    tracks, who = tracked(rng, points, poses)
    return points[who], poses, tracks


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_triangulation_undoes_projection_into_many_frames(seed):
    rng = np.random.default_rng(seed)
    poses = pose(rng.normal(0, 1, 3), rng.normal(0, 5, 3)) @ shaken(rng, walk(8), 0.05, 0.05)
    points = (things(rng, 20) @ poses[0, :3, :3].T) + poses[0, :3, 3]
    tracks, who = tracked(rng, points, poses)
    found = triangulated(tracks, by_frame(poses))
    assert sorted(found) == list(range(len(tracks)))
    np.testing.assert_allclose([found[n] for n in sorted(found)], points[who], atol=1e-6)
    assert reprojection(Piece(by_frame(poses), found), tracks).max() < 1e-9


def test_points_behind_a_camera_are_dropped():
    poses = by_frame(walk(3))
    point = np.array([0.4, 0.1, -4.0])  # where the lines of sight meet, with all cameras looking away from it
    here = np.stack([np.linalg.inv(p) @ [*point, 1] for p in poses.values()])
    mirrored = Track(np.arange(3), here[:, :2] / here[:, 2:3])
    assert triangulated([mirrored], poses) == {}
    # One camera that has walked past the point is enough.
    poses[3] = pose(shift=(0.4, 0.0, 9.0))
    ahead = np.stack([np.linalg.inv(p) @ [0.4, 0.1, 4.0, 1] for p in poses.values()])
    track = Track(np.arange(4), ahead[:, :2] / ahead[:, 2:3])
    assert triangulated([track], poses) == {}
    assert set(triangulated([Track(track.frames[:3], track.points[:3])], poses)) == {0}


@pytest.mark.parametrize(("way", "told"), [(0.15, False), (0.25, True)])
def test_a_point_that_hardly_moves_in_the_picture_has_no_depth(way, told):
    # 0.02 radians at ten metres are 0.2 m.
    poses = np.stack([pose(shift=(x, 0, 0)) for x in np.linspace(0, way, 5)])
    tracks, _ = tracked(np.random.default_rng(0), np.array([[0.0, 0.0, 10.0]]), poses)
    assert bool(triangulated(tracks, by_frame(poses))) == told


def test_a_camera_that_stands_sees_no_depth():
    poses = np.stack([pose((0, 0.05 * k, 0)) for k in range(5)])
    rng = np.random.default_rng(0)
    for noise in (0.0, 0.5 * PIXEL):
        tracks, _ = tracked(rng, things(rng, 40), poses, noise)
        assert len(tracks) > 10
        assert triangulated(tracks, by_frame(poses)) == {}


def test_frames_without_a_pose_have_no_say(world):
    points, poses, tracks = world
    known = {k: poses[k] for k in (2, 5, 6)}
    found = triangulated(tracks, known)
    seen = [sum(f in known for f in track.frames) for track in tracks]
    assert sorted(found) == [n for n, count in enumerate(seen) if count == 3], "all have the parallax"
    assert set(found) < set(triangulated(tracks, known, least=2))
    assert set(triangulated(tracks, known, least=2, numbers=[0, 1])) <= {0, 1}
    assert triangulated(tracks, {}) == {}
    np.testing.assert_allclose([found[n] for n in found], points[list(found)], atol=1e-6)


def test_moving_points_do_not_fit(world):
    points, poses, tracks = world
    rng = np.random.default_rng(2)
    # Upwards: across every line of sight. What moves along the path of the camera looks like a point elsewhere.
    movers, _ = tracked(rng, things(rng, 40), poses, velocity=(0, 0.05, 0), least=6)
    mixed = tracks + movers
    found = triangulated(mixed, by_frame(poses))
    assert len(set(found) - set(range(len(tracks)))) > 10
    kept = fitting(mixed, found, by_frame(poses))
    assert set(range(len(tracks))) <= set(kept)
    assert len(set(kept) - set(range(len(tracks)))) <= 1
    assert all(kept[n] is found[n] for n in kept)
    assert fitting(mixed, {}, by_frame(poses)) == {}
    np.testing.assert_allclose([kept[n] for n in range(len(tracks))], points, atol=1e-6)


def test_one_wrong_sighting_does_not_cost_a_point(world):
    _, poses, tracks = world
    long = next(n for n, track in enumerate(tracks) if len(track.frames) == FRAMES)
    points = triangulated(tracks, by_frame(poses))
    bent = Track(tracks[long].frames, tracks[long].points.copy())
    bent.points[0] += 0.1
    tracks = [bent if n == long else track for n, track in enumerate(tracks)]
    assert long in fitting(tracks, points, by_frame(poses))


def test_reprojection_counts_every_sighting_once(world):
    _, poses, tracks = world
    points = triangulated(tracks, by_frame(poses))
    errors = reprojection(Piece(by_frame(poses), points), tracks)
    assert len(errors) == sum(len(track.frames) for track in tracks)
    assert errors.max() < 1e-9
    off = [Track(track.frames, track.points + np.array([0.003, 0.004])) for track in tracks]
    np.testing.assert_allclose(reprojection(Piece(by_frame(poses), points), off), 0.005, atol=1e-9)
    assert reprojection(Piece(by_frame(poses), {}), tracks).shape == (0,)


# Bundle adjustment.


@settings(max_examples=8, deadline=None)
@given(seed=seeds)
def test_shaken_poses_are_put_right_up_to_where_the_world_begins(seed):
    rng = np.random.default_rng(seed)
    poses = walk(8)
    points = things(rng, 120)
    tracks, _ = tracked(rng, points, poses)
    wrong = by_frame(shaken(rng, poses, 0.02, 0.03))
    start = triangulated(tracks, wrong)
    found, moved = adjust(wrong, start, tracks)
    assert set(found) == set(wrong)
    assert set(moved) == set(start)
    scale, turn, place = fitted(found, by_frame(poses))
    assert turn < 0.01
    assert place < 1e-3
    assert scale == pytest.approx(1, abs=0.1), "that of the first pose and the farthest, as they came"
    errors = reprojection(Piece(found, moved), tracks)
    # Points that a bad start put behind a camera may stay lost; nearly all others are exact.
    assert np.quantile(errors, 0.95) < 1e-5
    np.testing.assert_allclose(found[0], wrong[0], atol=1e-3, err_msg="the first pose stays")


def test_exact_poses_stay(world):
    points, poses, tracks = world
    found, moved = adjust(by_frame(poses), dict(enumerate(points)), tracks)
    np.testing.assert_allclose([found[k] for k in range(FRAMES)], poses, atol=1e-6)
    np.testing.assert_allclose([moved[n] for n in range(len(points))], points, atol=1e-5)


def test_what_is_given_is_not_changed(world):
    points, poses, tracks = world
    wrong = by_frame(shaken(np.random.default_rng(0), poses, 0.02, 0.03))
    before = {k: p.copy() for k, p in wrong.items()}
    start = dict(enumerate(points.copy()))
    adjust(wrong, start, tracks, wrong)
    for k, p in before.items():
        np.testing.assert_array_equal(wrong[k], p)
    np.testing.assert_array_equal([start[n] for n in range(len(points))], points)


@pytest.mark.parametrize("seed", range(3))
def test_odometry_gives_the_scale(seed):
    rng = np.random.default_rng(seed)
    poses = walk()
    tracks, _ = tracked(rng, things(rng, 200), poses, 0.5 * PIXEL)
    odometry = by_frame(drifting(rng, poses, 0.0, 0.03, still=0.003))
    # The start has shrunk; odometry knows better.
    small = {k: p.copy() for k, p in odometry.items()}
    for p in small.values():
        p[:3, 3] *= 0.8
    found, _ = adjust(small, triangulated(tracks, small), tracks, odometry)
    scale, turn, place = fitted(found, by_frame(poses))
    assert scale == pytest.approx(1, abs=0.03), "metres"
    assert turn < 0.3
    assert place < 0.02
    np.testing.assert_allclose(found[0][:3, 3], odometry[0][:3, 3], atol=0.1, err_msg="in the odometry's world")


@pytest.mark.parametrize("metric", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_a_third_of_moving_points_does_not_bend_the_path(metric, seed):
    rng = np.random.default_rng(seed)
    poses = walk()
    still, _ = tracked(rng, things(rng, 200), poses, 0.5 * PIXEL)
    movers, _ = tracked(rng, things(rng, 110), poses, 0.5 * PIXEL, velocity=(0.1, 0.06, -0.05))
    assert len(movers) > 0.4 * len(still)
    tracks = still + movers
    given = by_frame(drifting(rng, poses, 0.03, 0.03, still=0.003))
    found, _ = adjust(given, triangulated(tracks, given), tracks, given if metric else None)
    before, after = step_errors(given, poses, 4), step_errors(found, poses, 4)
    assert after[0] < before[0]
    _, turn, place = fitted(found, by_frame(poses))
    assert turn < 0.5
    assert place < 0.05, "of 2.8 m"


def test_frames_that_odometry_alone_holds_follow_it(world):
    points, poses, tracks = world
    # Nothing is seen in the last two frames.
    cut = [Track(t.frames[t.frames < 10], t.points[t.frames < 10]) for t in tracks]
    odometry = by_frame(poses)
    found, _ = adjust(odometry, dict(enumerate(points)), cut, odometry)
    np.testing.assert_allclose([found[k] for k in range(FRAMES)], poses, atol=1e-5)


def test_long_tracks_are_thinned_over_their_whole_length():
    # A point that is right only at both ends of its track, which two observations are.
    rng = np.random.default_rng(0)
    poses = walk(40, stride=0.05)
    points = things(rng, 120, low=(-1, -1, 4), high=(2, 1, 6))
    tracks, who = tracked(rng, points, poses, least=40)
    assert len(tracks) > 30
    for track in tracks:
        track.points[1:-1] += rng.normal(0, 0.05, (38, 2))
    start = {n: points[k] + rng.normal(0, 0.05, 3) for n, k in enumerate(who)}
    found, moved = adjust(by_frame(poses), start, tracks, by_frame(poses), BundleConfig(longest=2, odometry_turn=1e-6))
    ends = [Track(track.frames[[0, -1]], track.points[[0, -1]]) for track in tracks]
    assert np.median(reprojection(Piece(found, moved), ends)) < 1e-4


def test_what_does_not_determine_poses_says_so_or_stays_finite():
    poses = by_frame(walk(4))
    once = [Track(np.array([k % 4]), np.array([[0.1 * k - 0.5, 0.0]])) for k in range(10)]
    strange = [Track(np.arange(4), np.zeros((4, 2))) for _ in range(3)]
    for tracks in (once, strange, []):
        for odometry in (None, poses):
            points = {n: np.array([0.3 * n, 0.1, 4.0]) for n in range(len(tracks))}
            try:
                found, moved = adjust(poses, points, tracks, odometry)
            except RuntimeError:
                assert odometry is None or tracks, "odometry alone determines poses"
                continue
            for values in (*found.values(), *moved.values()):
                assert np.isfinite(values).all()
