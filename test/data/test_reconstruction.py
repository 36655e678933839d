"""Poses from tracks alone, and odometry refined by them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.data.multi_view import reprojection
from ssmde_ros.data.reconstruction import Reconstruction, reconstruct
from ssmde_ros.data.tracks import Track
from ssmde_ros.data.visual_odometry import pieces
from test.data.walks import (
    FRAMES,
    PIXEL,
    by_frame,
    clip_of,
    drifting,
    fitted,
    pose,
    seeds,
    step_errors,
    things,
    tracked,
    turn_round,
    turned,
    walk,
)


@pytest.fixture(scope="module")
def noisy():
    """Poses and tracks of a walk, half a pixel off."""
    rng = np.random.default_rng(1)
    poses = walk()
    return poses, tracked(rng, things(rng, 200), poses, 0.5 * PIXEL)[0]


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
