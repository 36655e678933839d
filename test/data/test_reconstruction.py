from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.data.bundle import BundleConfig, adjust
from ssmde_ros.data.clip import Clip
from ssmde_ros.data.multi_view import Piece, fitting, reprojection, triangulated
from ssmde_ros.data.reconstruction import Reconstruction, reconstruct
from ssmde_ros.data.tracks import Track
from ssmde_ros.data.visual_odometry import pieces
from ssmde_ros.geometry import PinholeCamera

PIXEL = 1 / 500  # of a camera with 500 pixels of focal length
FRAMES = 12
seeds = st.integers(0, 10_000)


def pose(turn=(0, 0, 0), shift=(0, 0, 0)):
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = cv2.Rodrigues(np.asarray(turn, float))[0], shift
    return motion


def walk(frames=FRAMES, stride=0.25):
    """Camera to world of a walk past things: sideways with a sway, looking about."""
    steps = np.arange(frames)
    turns = np.column_stack([0.02 * np.sin(steps / 2), 0.08 * np.sin(steps / 3), 0.01 * np.cos(steps)])
    places = np.column_stack([stride * steps, 0.1 * np.sin(steps), 0.15 * stride * steps])
    return np.stack([pose(turn, place) for turn, place in zip(turns, places, strict=True)])


def turn_round(frames=FRAMES):
    """Camera to world of a quarter of a circle around things, looking at them."""
    angles = np.linspace(0, np.pi / 2, frames)
    return np.stack([pose((0, -a, 0), (4 * np.sin(a), 0.1 * np.sin(3 * a), 4 - 4 * np.cos(a))) for a in angles])


def things(rng, count, low=(-3, -2, 3), high=(6, 2, 8)):
    return rng.uniform(low, high, (count, 3))


def tracked(rng, points, poses, noise=0.0, velocity=(0, 0, 0), first=0, least=3):
    """Tracks of points `[N, 3]` that move by `velocity` a frame, seen by frames `first` and on, and who is who."""
    tracks, who = [], []
    steps = np.arange(len(poses))[:, None] * np.asarray(velocity, float)
    for number, point in enumerate(points):
        here = np.einsum("kji,kj->ki", poses[:, :3, :3], point + steps - poses[:, :3, 3])
        image = here[:, :2] / np.where(here[:, 2:] > 0.2, here[:, 2:], np.nan)
        seen = np.flatnonzero((np.abs(image) < 0.7).all(1))
        if len(seen) >= least:
            tracks.append(Track(first + seen, image[seen] + rng.normal(0, noise, (len(seen), 2))))
            who.append(number)
    return tracks, who


def by_frame(poses):
    return dict(enumerate(poses))


def shaken(rng, poses, turn, shift):
    return np.stack([p @ pose(rng.normal(0, turn, 3), rng.normal(0, shift, 3)) for p in poses])


def drifting(rng, poses, turn, share, still=0.0):
    """Odometry of poses: each step turns by `turn` too much or little and errs by a `share` of its way."""
    found = [poses[0]]
    for a, b in pairwise(poses):
        step = np.linalg.inv(a) @ b
        way = np.linalg.norm(step[:3, 3])
        angles = cv2.Rodrigues(step[:3, :3])[0].ravel()
        angles = angles * (1 + rng.normal(0, turn)) + rng.normal(0, still, 3)
        found.append(found[-1] @ pose(angles, step[:3, 3] + share * way * rng.normal(0, 1, 3) / np.sqrt(3)))
    return np.stack(found)


def turned(a, b):
    """Degrees between two rotations."""
    return np.degrees(np.linalg.norm(cv2.Rodrigues(a[:3, :3].T @ b[:3, :3])[0]))


def fitted(found, truth):
    """Scale, and the largest error in degrees and metres, of poses laid onto the true ones (Umeyama 1991)."""
    frames = sorted(found)
    a, b = (np.stack([p[f] for f in frames]) for p in (found, truth))
    here, there = a[:, :3, 3] - a[:, :3, 3].mean(0), b[:, :3, 3] - b[:, :3, 3].mean(0)
    # Places alone do not tell a roll about a straight path: directions of view have a say.
    looks = [p[:, :3, :3].transpose(0, 2, 1).reshape(-1, 3) * np.abs(there).max() for p in (a, b)]
    u, _, v = np.linalg.svd(np.concatenate([there, looks[1]]).T @ np.concatenate([here, looks[0]]))
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v
    scale = float((there * (here @ rotation.T)).sum() / (here**2).sum())
    places = np.linalg.norm(scale * here @ rotation.T - there, axis=1)
    turns = [turned(rotation @ p[:3, :3], q[:3, :3]) for p, q in zip(a, b, strict=True)]
    return scale, max(turns), places.max()


def step_errors(found, truth, gap=1):
    """Mean error of the motions over `gap` frames: degrees, and metres."""
    pairs = [(a, a + gap) for a in range(len(truth) - gap)]
    steps = [[np.linalg.inv(p[b]) @ p[a] for a, b in pairs] for p in (found, truth)]
    turns = [turned(a, b) for a, b in zip(*steps, strict=True)]
    shifts = [np.linalg.norm(a[:3, 3] - b[:3, 3]) for a, b in zip(*steps, strict=True)]
    return np.mean(turns), np.mean(shifts)


def clip_of(frames, poses=None, known=None):
    camera = PinholeCamera(32, 32, 30.0, 30.0, 15.5, 15.5)
    known = np.ones(frames, bool) if poses is not None and known is None else known
    stamps = np.arange(frames, dtype=np.int64)
    images = torch.zeros(frames, 3, 32, 32, dtype=torch.uint8)
    return Clip("points", images, camera, stamps, [str(s) for s in stamps], poses=poses, pose_known=known)


@pytest.fixture(scope="module")
def world():
    """Points, poses and exact tracks of a walk."""
    rng = np.random.default_rng(0)
    points, poses = things(rng, 200), walk()
    tracks, who = tracked(rng, points, poses)
    return points[who], poses, tracks


@pytest.fixture(scope="module")
def noisy():
    """Poses and tracks of a walk, half a pixel off."""
    rng = np.random.default_rng(1)
    poses = walk()
    return poses, tracked(rng, things(rng, 200), poses, 0.5 * PIXEL)[0]


# Points from known poses.


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


# Visual odometry.


def test_a_walk_is_one_piece_up_to_its_scale(noisy):
    poses, tracks = noisy
    (piece,) = pieces(tracks, FRAMES)
    assert set(piece.poses) == set(range(FRAMES))
    scale, turn, place = fitted(piece.poses, by_frame(poses))
    assert turn < 0.4
    assert place < 0.02, "of 2.8 m"
    assert len(piece.points) > 0.8 * len(tracks)
    assert np.median(reprojection(piece, tracks)) < PIXEL
    for a in range(FRAMES - 1):
        there, true = (np.linalg.inv(p[a + 1]) @ p[a] for p in (piece.poses, poses))
        assert turned(there, true) < 0.2
        np.testing.assert_allclose(scale * there[:3, 3], true[:3, 3], atol=0.02)


def test_a_way_round_things_is_told_too():
    rng = np.random.default_rng(3)
    poses = turn_round(16)
    tracks, _ = tracked(rng, things(rng, 150, low=(-1.5, -1.5, 2.5), high=(1.5, 1.5, 5.5)), poses, 0.5 * PIXEL)
    (piece,) = pieces(tracks, 16)
    assert len(piece.poses) == 16
    _, turn, place = fitted(piece.poses, by_frame(poses))
    assert turn < 0.5
    assert place < 0.05, "of 6 m"


def test_moving_points_do_not_bend_visual_odometry():
    rng = np.random.default_rng(4)
    poses = walk()
    tracks = tracked(rng, things(rng, 200), poses, 0.5 * PIXEL)[0]
    tracks += tracked(rng, things(rng, 60), poses, 0.5 * PIXEL, velocity=(0.1, 0.06, -0.05))[0]
    (piece,) = pieces(tracks, FRAMES)
    _, turn, place = fitted(piece.poses, by_frame(poses))
    assert turn < 0.5
    assert place < 0.03


def test_halves_that_share_nothing_are_two_pieces():
    rng = np.random.default_rng(5)
    poses = walk(10)
    tracks = [t for k in (0, 10) for t in tracked(rng, things(rng, 150), poses, 0.5 * PIXEL, first=k)[0]]
    found = list(pieces(tracks, 20))
    assert sorted(sorted(p.poses) for p in found) == [list(range(10)), list(range(10, 20))]
    for piece in found:
        _, turn, place = fitted({k % 10: p for k, p in piece.poses.items()}, by_frame(poses))
        assert turn < 0.5
        assert place < 0.03


@pytest.mark.parametrize("step", [0.0, 0.03])
@pytest.mark.parametrize("noise", [0.0, 0.5 * PIXEL])
def test_a_camera_that_stands_or_only_turns_gives_no_piece(step, noise):
    rng = np.random.default_rng(6)
    poses = np.stack([pose((0.3 * step * k, step * k, 0)) for k in range(FRAMES)])
    tracks, _ = tracked(rng, things(rng, 300), poses, noise)
    assert len(tracks) > 100
    assert list(pieces(tracks, FRAMES)) == []


def test_traffic_before_a_camera_that_stands_gives_no_piece():
    rng = np.random.default_rng(7)
    poses = np.stack([np.eye(4)] * FRAMES)
    tracks = tracked(rng, things(rng, 300), poses, 0.5 * PIXEL)[0]
    tracks += tracked(rng, things(rng, 100), poses, 0.5 * PIXEL, velocity=(-0.1, 0, 0))[0]
    assert list(pieces(tracks, FRAMES)) == []


def test_no_tracks_no_piece():
    assert list(pieces([], FRAMES)) == []
    assert list(pieces([], 0)) == []


def test_fewer_than_five_frames_are_no_piece():
    rng = np.random.default_rng(8)
    tracks, _ = tracked(rng, things(rng, 150), walk(5))
    assert [len(p.poses) for p in pieces(tracks, 5)] == [5]
    tracks, _ = tracked(rng, things(rng, 150), walk(4))
    assert list(pieces(tracks, 4)) == []
    assert list(pieces(tracks, 9)) == [], "frames that see nothing do not count"


@settings(max_examples=4, deadline=None)
@given(seed=seeds, length=st.integers(2, FRAMES))
def test_tracks_of_noise_make_no_nan(seed, length):
    rng = np.random.default_rng(seed)
    tracks = [
        Track(np.sort(rng.choice(FRAMES, length, replace=False)), rng.uniform(-0.5, 0.5, (length, 2)))
        for _ in range(120)
    ]
    for piece in pieces(tracks, FRAMES):
        for values in (*piece.poses.values(), *piece.points.values()):
            assert np.isfinite(values).all()
    for poses in (None, walk()):
        found = reconstruct(clip_of(FRAMES, poses), tracks)
        assert found is None or np.isfinite([found.error, *found.poses.ravel()]).all()


# Both together.


def test_without_odometry_a_clip_has_no_scale(noisy):
    poses, tracks = noisy
    found = reconstruct(clip_of(FRAMES), tracks)
    assert not found.metric
    assert found.piece.tolist() == [0] * FRAMES
    assert found.poses.shape == (FRAMES, 4, 4)
    assert 0.1 * PIXEL < found.error < PIXEL
    scale, turn, place = fitted(by_frame(found.poses), by_frame(poses))
    assert turn < 0.4
    assert place < 0.02
    true, motion = np.linalg.inv(poses[7]) @ poses[2], found.motion(2, 7)
    assert turned(motion, true) < 0.3
    np.testing.assert_allclose(scale * motion[:3, 3], true[:3, 3], atol=0.03)
    np.testing.assert_allclose(motion @ found.motion(7, 2), np.eye(4), atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_refined_odometry_is_closer_to_the_truth_and_in_metres(seed):
    rng = np.random.default_rng(seed)
    poses = turn_round()
    tracks, _ = tracked(rng, things(rng, 150, low=(-1.5, -1.5, 2.5), high=(1.5, 1.5, 5.5)), poses, 0.5 * PIXEL)
    odometry = drifting(rng, poses, 0.03, 0.03)  # three percent of turn and way
    found = reconstruct(clip_of(FRAMES, odometry), tracks)
    assert found.metric
    assert (found.piece == 0).all()
    assert found.error < PIXEL
    for gap in (1, 4):
        before, after = step_errors(odometry, poses, gap), step_errors(found.poses, poses, gap)
        assert after[0] < 0.8 * before[0]
        assert after[1] < before[1]
    assert fitted(by_frame(found.poses), by_frame(poses))[0] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("seed", range(2))
def test_moving_points_sit_the_second_round_out(seed):
    rng = np.random.default_rng(seed)
    poses = walk()
    still = tracked(rng, things(rng, 200), poses, 0.5 * PIXEL)[0]
    movers = tracked(rng, things(rng, 60), poses, 0.5 * PIXEL, velocity=(0.1, 0.06, -0.05))[0]
    odometry = drifting(rng, poses, 0.03, 0.03, still=0.003)
    # Mixed: the clip reads no more than 16 tracks a frame.
    tracks = [(movers + still)[k] for k in rng.permutation(len(still) + len(movers))]
    found = reconstruct(clip_of(FRAMES, odometry), tracks)
    _, turn, place = fitted(by_frame(found.poses), by_frame(poses))
    assert turn < 0.15, "one round leaves 0.3"
    assert place < 0.01


def test_frames_without_odometry_stay_unknown(noisy):
    poses, tracks = noisy
    known = np.arange(FRAMES) % 5 != 3
    odometry = np.where(known[:, None, None], poses, np.nan)
    found = reconstruct(clip_of(FRAMES, odometry, known), tracks)
    assert found.metric
    assert found.piece.tolist() == [0 if k else -1 for k in known]
    assert found.motion(2, 3) is None
    assert found.motion(3, 3) is None
    assert turned(found.motion(2, 4), np.linalg.inv(poses[4]) @ poses[2]) < 0.2
    assert reconstruct(clip_of(FRAMES, odometry, np.zeros(FRAMES, bool)), tracks) is None


def test_pieces_have_numbers_and_no_motion_between_them():
    rng = np.random.default_rng(9)
    # Two walks, and three frames between them that see nothing.
    tracks = [t for k in (0, 13) for t in tracked(rng, things(rng, 150), walk(10), 0.5 * PIXEL, first=k)[0]]
    found = reconstruct(clip_of(23), tracks)
    numbers = [set(found.piece[part].tolist()) for part in (slice(10), slice(10, 13), slice(13, None))]
    assert numbers in ([{0}, {-1}, {1}], [{1}, {-1}, {0}])
    assert found.motion(0, 9) is not None
    assert found.motion(9, 13) is None
    assert found.motion(11, 12) is None
    assert found.motion(9, 11) is None


def test_motion_takes_points_of_the_target_to_the_source():
    poses = walk(3)
    found = Reconstruction(poses, np.array([0, 0, 1]), True, 0.0)
    point = np.array([0.3, 0.2, 4.0, 1.0])
    np.testing.assert_allclose(found.motion(0, 1) @ np.linalg.inv(poses[0]) @ point, np.linalg.inv(poses[1]) @ point)
    assert found.motion(1, 2) is None


@pytest.mark.parametrize("metric", [False, True])
def test_too_few_tracks_determine_nothing(noisy, metric):
    poses, tracks = noisy
    clip = clip_of(FRAMES, poses if metric else None)
    assert reconstruct(clip, tracks[:99]) is None
    assert reconstruct(clip, tracks[:110]) is not None
    assert reconstruct(clip, []) is None


def test_odometry_of_a_camera_that_stands_is_not_refined():
    rng = np.random.default_rng(10)
    poses = np.stack([np.eye(4)] * FRAMES)
    tracks, _ = tracked(rng, things(rng, 300), poses, 0.5 * PIXEL)
    assert reconstruct(clip_of(FRAMES, poses), tracks) is None
    assert reconstruct(clip_of(FRAMES), tracks) is None


def test_odometry_that_no_track_agrees_with_is_not_refined():
    rng = np.random.default_rng(11)
    wrong = [Track(np.arange(FRAMES), rng.uniform(-0.5, 0.5, (FRAMES, 2))) for _ in range(190)]
    assert reconstruct(clip_of(FRAMES, walk()), wrong) is None


def test_only_the_longest_tracks_are_read(noisy):
    poses, tracks = noisy
    # Sixteen a frame; what comes after them, however wrong, has no say.
    tracks = sorted(tracks, key=lambda t: -len(t.frames))
    clip = clip_of(FRAMES, poses)
    more = tracks * 2
    wrong = [replace(t, points=t.points[::-1] + 0.3) for t in tracks]
    first = 16 * FRAMES
    a, b = (reconstruct(clip, more[:first] + rest) for rest in ([], wrong))
    np.testing.assert_array_equal(a.poses, b.poses)
