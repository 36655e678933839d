import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.data.matching import Features
from ssmde_ros.data.tracks import _connected, follow_features, sightings

FRAMES = 10
STRIDE = 0.15  # metres sideways from frame to frame
LATER = 3  # one of the frames


def drawn(count=60, frames=FRAMES, seed=0):
    """Features of random points before a camera that steps sideways: row k of each frame is point k."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(2, 6, count)
    points = np.column_stack([rng.uniform(-0.5, 0.5, (count, 2)) * z[:, None], z])
    names = unit(rng.normal(size=(count, 128)))
    centres = [np.array([STRIDE * k, 0.02 * np.sin(k), 0.03 * k]) for k in range(frames)]
    return [Features((points - c)[:, :2] / (points - c)[:, 2:], names.copy()) for c in centres]


def unit(vectors):
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def without(features, rows):
    return Features(np.delete(features.points, rows, 0), np.delete(features.descriptors, rows, 0))


def followed(tracks, point):
    """Frames of the tracks that end at this place of the first frame that sees it."""
    return [track.frames.tolist() for track in tracks if np.allclose(track.points[0], point)]


@pytest.fixture(scope="module")
def features():
    return drawn()


@pytest.fixture(scope="module")
def tracks(features):
    return follow_features(features)


def brute_union(count, links):
    """Smallest node of each node's component, link by link."""
    parts = [{k} for k in range(count)]
    for a, b in links:
        joined = parts[a] | parts[b]
        for k in joined:
            parts[k] = joined
    return [min(part) for part in parts]


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 40))
    node = st.integers(0, count - 1)
    return count, draw(st.lists(st.tuples(node, node), max_size=60))


@settings(max_examples=300, deadline=None)
@given(graph=graphs())
def test_components_are_those_of_a_union_link_by_link(graph):
    count, links = graph
    found = _connected(count, np.array(links, np.intp).reshape(-1, 2))
    assert found.tolist() == brute_union(count, links)


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(60)))
def test_a_long_chain_is_one_component_in_any_order(order):
    # The smallest label has the longest way to go: settling too early shows here.
    links = np.stack([order[:-1], order[1:]], 1)
    assert not _connected(60, np.asarray(links, np.intp)).any()


def test_every_point_is_one_track_with_its_own_places(features, tracks):
    assert len(tracks) == 60
    first = features[0].points
    rows = [int(np.linalg.norm(first - track.points[0], axis=1).argmin()) for track in tracks]
    assert sorted(rows) == list(range(60)), "each point once"
    for row, track in zip(rows, tracks, strict=True):
        assert track.frames.tolist() == list(range(FRAMES))
        np.testing.assert_array_equal(track.points, [f.points[row] for f in features])


def test_a_match_off_its_epipolar_line_is_not_followed(features):
    wrong = [Features(f.points.copy(), f.descriptors) for f in features]
    wrong[LATER].points[:5, 1] += 0.1  # 50 pixels across the direction of travel
    tracks = follow_features(wrong)
    assert len(tracks) == 60
    for row in range(60):
        (frames,) = followed(tracks, wrong[0].points[row])
        assert (LATER in frames) == (row >= 5)
        assert len(frames) == FRAMES - (row < 5)


def test_a_point_hidden_for_a_while_stays_one_track(features):
    hidden = [without(f, [0]) if k in (4, 5, 6) else f for k, f in enumerate(features)]
    assert followed(follow_features(hidden), features[0].points[0]) == [[0, 1, 2, 3, 7, 8, 9]]


def test_a_component_that_meets_a_frame_twice_is_dropped():
    # The look of one point turns by 25 degrees a step; in frame 1 two features stand at either end of the fan. Frame 0
    # matches one of them, frame 2 the other, and frames 0 and 2 each other.
    features = drawn(frames=3)
    fan = np.zeros((4, 128), np.float32)
    for k, angle in enumerate(np.radians([0, 25, 50, 75])):
        fan[k, :2] = np.cos(angle), np.sin(angle)
    for frame, look in zip(features, (1, 0, 2), strict=True):
        frame.descriptors[0] = fan[look]
    assert len(followed(follow_features(features, shortest=3), features[0].points[0])) == 1, "a fair track before"
    features[1] = Features(
        np.concatenate([features[1].points, features[1].points[:1]]),
        np.concatenate([features[1].descriptors, fan[3:]]),
    )
    tracks = follow_features(features, shortest=3)
    assert not followed(tracks, features[0].points[0])
    assert len(tracks) == 59, "the others stay"


def test_the_longest_tracks_come_first_and_short_ones_not_at_all(features):
    rng = np.random.default_rng(1)
    gaps = [np.sort(rng.choice(60, 15, replace=False)) for _ in features]
    some = [without(f, rows) for f, rows in zip(features, gaps, strict=True)]
    lengths = [len(t.frames) for t in follow_features(some, shortest=7)]
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) > 2
    assert min(lengths) == 7
    assert len(follow_features(some, shortest=2)) > len(lengths)


def test_frames_rise_and_each_place_is_a_feature_of_its_frame(features):
    rng = np.random.default_rng(2)
    shuffled = []
    for f in features:
        order = rng.permutation(60)
        shuffled.append(Features(f.points[order], f.descriptors[order]))
    tracks = follow_features(shuffled)
    assert len(tracks) == 60
    for track in tracks:
        assert (np.diff(track.frames) > 0).all()
        for frame, point in zip(track.frames, track.points, strict=True):
            assert (shuffled[frame].points == point).all(1).any()


def test_sightings_undo_tracks(features):
    some = [without(f, range(k, k + 4)) for k, f in enumerate(features)]
    tracks = follow_features(some)
    seen = sightings(tracks, FRAMES + 1)
    assert [len(s) for s in seen[:FRAMES]] == [sum(k in t.frames for t in tracks) for k in range(FRAMES)]
    assert seen[FRAMES] == {}, "a frame without tracks"
    for number, track in enumerate(tracks):
        assert [k for k, s in enumerate(seen) if number in s] == track.frames.tolist()
        np.testing.assert_array_equal([seen[k][number] for k in track.frames], track.points)


def test_nothing_to_follow_gives_no_tracks(features):
    empty = Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    assert follow_features([]) == []
    assert follow_features(features[:1]) == []
    assert follow_features([empty] * 5) == []
    assert sightings([], 2) == [{}, {}]


def test_frames_without_features_are_stepped_over(features, tracks):
    empty = Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    holed = [empty if k == LATER else f for k, f in enumerate(features)]
    found = follow_features(holed)
    assert len(found) == len(tracks)
    assert all(track.frames.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9] for track in found)


def test_a_handful_of_matches_connects_nothing():
    assert follow_features(drawn(count=15)) == []
    assert len(follow_features(drawn(count=40))) == 40


def test_unrelated_frames_share_no_tracks():
    strangers = [drawn(frames=1, seed=k)[0] for k in range(6)]
    assert follow_features(strangers, shortest=2) == []


def test_tracks_are_the_same_every_time(features, tracks):
    cv2.setRNGSeed(5)  # whatever ran before
    for a, b in zip(tracks, follow_features(features), strict=True):
        np.testing.assert_array_equal(a.frames, b.frames)
        np.testing.assert_array_equal(a.points, b.points)
