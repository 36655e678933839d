from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from ssmde_ros.data.clip import Clip, ClipError
from ssmde_ros.data.matching import DenseFlow, Features, detect, match
from ssmde_ros.data.motion import pair_motions
from ssmde_ros.data.pair_motion import POINTS
from ssmde_ros.data.synthetic import SyntheticWorld, WorldConfig
from ssmde_ros.geometry import PinholeCamera, structure, two_view

CAMERA = PinholeCamera(320, 256, 260.0, 264.0, 158.0, 129.0)


def recorded(world, times):
    """A clip at half the size of its tracking images, with depth; poses stay aside."""
    frames = [world.render(t) for t in times]
    images = torch.stack([(f.image * 255).round().to(torch.uint8) for f in frames])
    grey = [cv2.cvtColor(i.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY) for i in images]
    small = torch.nn.functional.interpolate(images.float(), (128, 160), mode="area").round().to(torch.uint8)
    clip = Clip(
        "drawn", small, CAMERA.resized(160, 128), (np.array(times) * 1e9).astype(np.int64),
        [str(t) for t in times], grey, CAMERA, depth=torch.stack([f.depth for f in frames]),
    )  # fmt: skip
    return clip, torch.stack([f.pose for f in frames]).double().numpy()


@pytest.fixture(scope="module", params=[0, 5])
def drive(request):
    """Three frames of a street, the camera on its way, and the true poses."""
    return recorded(SyntheticWorld(WorldConfig("street", request.param, CAMERA)), [0.0, 0.2, 0.4])


@pytest.fixture(scope="module")
def parked():
    """The same street and its traffic seen by a camera at rest."""
    world = SyntheticWorld(WorldConfig("street", 7, CAMERA))
    path = world.scene.path
    world.scene.path = replace(path, velocity=(0.0, 0.0, 0.0), yaw_rate=0.0, shake=0.0, sway=0.0)
    return recorded(world, [0.0, 0.4, 0.8])


def with_odometry(clip, poses):
    return replace(clip, poses=poses, pose_known=np.ones(len(poses), bool))


def truth(poses, target, source):
    return np.linalg.inv(poses[source]) @ poses[target]


def turned(a, b):
    return np.degrees(np.linalg.norm(cv2.Rodrigues(a[:3, :3].T @ b[:3, :3])[0]))


def between(a, b):
    a, b = a[:3, 3], b[:3, 3]
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), a @ b))


def depth_errors(clip, target, pair, scale):
    """Relative error of the triangulated depth, by the true depth of the full-size frame."""
    known = pair.inverse_depth > 0
    rays = (pair.pixels[known].numpy() - [clip.camera.cx, clip.camera.cy]) / [clip.camera.fx, clip.camera.fy]
    return errors_along(clip, target, rays, scale / pair.inverse_depth[known].numpy())


def errors_along(clip, target, rays, depth):
    u, v = (rays * [CAMERA.fx, CAMERA.fy] + [CAMERA.cx, CAMERA.cy]).round().astype(int).T
    true = clip.depth[target, 0].numpy()[v.clip(0, 255), u.clip(0, 319)]
    # Inverse depth, so that a silhouette that rounds to the sky is wrong by one and not by infinity.
    return np.abs(depth / true - 1)


def test_motion_and_depth_are_told_from_pictures_alone(drive):
    clip, poses = drive
    found = pair_motions(clip, [(1, 0), (1, 2)])
    assert sorted(found) == [(0, 1), (1, 0), (1, 2), (2, 1)], "both directions of both pairs"
    for (target, source), pair in found.items():
        motion, true = pair.motion.double().numpy(), truth(poses, target, source)
        assert not pair.metric
        assert turned(motion, true) < 0.4
        assert between(motion, true) < 10
        assert np.linalg.norm(motion[:3, 3]) == pytest.approx(1, abs=1e-5)
        errors = depth_errors(clip, target, pair, np.linalg.norm(true[:3, 3]))
        assert len(errors) > 40
        assert np.median(errors) < 0.35, "most points come from flow, which crosses silhouettes"


def test_odometry_gives_the_length(drive):
    clip, poses = drive
    found = pair_motions(with_odometry(clip, poses), [(1, 0), (1, 2)])
    for (target, source), pair in found.items():
        motion, true = pair.motion.double().numpy(), truth(poses, target, source)
        assert pair.metric
        assert np.linalg.norm(motion[:3, 3]) == pytest.approx(np.linalg.norm(true[:3, 3]), rel=1e-5)
        assert turned(motion, true) < 0.4
        assert between(motion, true) < 5
        errors = depth_errors(clip, target, pair, 1.0)
        assert len(errors) > 40
        assert np.median(errors) < 0.35, "metres, without a scale"


def test_features_tell_depth_to_a_few_percent(drive):
    clip, poses = drive
    features = detect(clip)
    found = two_view(*match(features[1], features[2]), truth(poses, 1, 2))
    errors = errors_along(clip, 1, found.points_a, found.depth_a)
    assert len(errors) > 40
    assert np.median(errors) < 0.08


def test_flow_tells_depth_where_there_are_no_features(drive):
    clip, poses = drive
    flow = DenseFlow(clip)
    a, b = flow.match(1, 2)
    assert a.shape == b.shape
    assert len(a) > 1000
    found = structure(a, b, truth(poses, 1, 2))
    errors = errors_along(clip, 1, found.points_a, found.depth_a)
    assert np.median(errors) < 0.35


def test_flow_between_equal_frames_is_none(drive):
    clip, _ = drive
    a, b = DenseFlow(replace(clip, tracking=[clip.tracking[0]] * 2)).match(0, 1)
    np.testing.assert_allclose(a, b, atol=0.05 / CAMERA.fx)
    assert len(a) == (256 // 4) * (320 // 4)


def test_flow_that_leaves_the_picture_or_does_not_return_is_no_match(drive):
    clip, _ = drive
    rolled = np.roll(clip.tracking[0], 8, 1)
    a, b = DenseFlow(replace(clip, tracking=[clip.tracking[0], rolled])).match(0, 1)
    shift = (b - a) * [CAMERA.fx, CAMERA.fy]
    assert np.median(shift, 0) == pytest.approx([8, 0], abs=0.1)
    for points in (a, b):
        u = points[:, 0] * CAMERA.fx + CAMERA.cx
        assert u.min() >= 0
        assert u.max() <= 319
    noise = np.random.default_rng(0).integers(0, 256, (256, 320), dtype=np.uint8)
    assert len(DenseFlow(replace(clip, tracking=[clip.tracking[0], noise])).match(0, 1)[0]) < 0.1 * len(a)


@pytest.mark.parametrize("metric", [False, True])
def test_there_and_back_is_the_same_motion_and_the_same_points(drive, metric):
    clip, poses = drive
    found = pair_motions(with_odometry(clip, poses) if metric else clip, [(2, 1)])
    there, back = found[1, 2], found[2, 1]
    torch.testing.assert_close(there.motion @ back.motion, torch.eye(4), atol=1e-5, rtol=0)
    known = there.inverse_depth > 0
    assert torch.equal(known, back.inverse_depth > 0)
    # A point lifted in one view lands on its pixel, and its depth, in the other.
    k = clip.camera.matrix()
    rays = torch.cat([there.pixels[known], torch.ones(int(known.sum()), 1)], 1) @ torch.linalg.inv(k).T
    moved = rays / there.inverse_depth[known, None] @ there.motion[:3, :3].T + there.motion[:3, 3]
    seen = moved @ k.T
    assert (seen[:, :2] / seen[:, 2:] - back.pixels[known]).norm(dim=1).max() < 1.6 * 2, "the gate, at twice the size"
    torch.testing.assert_close(1 / moved[:, 2], back.inverse_depth[known], rtol=1e-3, atol=0)


def test_rows_are_padded_and_lie_in_the_picture(drive):
    clip, _ = drive
    for pair in pair_motions(clip, [(0, 1)]).values():
        assert pair.pixels.shape == (POINTS, 2)
        assert pair.inverse_depth.shape == (POINTS,)
        padded = pair.inverse_depth == 0
        assert (pair.pixels[padded] == 0).all()
        assert (pair.inverse_depth >= 0).all()
        assert pair.inverse_depth.isfinite().all()
        u, v = pair.pixels[~padded].unbind(1)
        assert u.min() >= -0.5
        assert v.min() >= -0.5
        assert u.max() <= 159.5
        assert v.max() <= 127.5


def test_it_is_the_same_every_time(drive):
    clip, _ = drive
    first, again = (pair_motions(clip, [(0, 1)], seed=3)[0, 1] for _ in range(2))
    assert torch.equal(first.motion, again.motion)
    assert torch.equal(first.pixels, again.pixels)


def test_traffic_before_a_camera_at_rest_is_no_motion(parked):
    clip, _ = parked
    assert match(*detect(clip)[:2])[0].shape[0] > 100, "there is enough to match"
    assert pair_motions(clip, [(1, 0), (1, 2)]) == {}


def test_odometry_of_a_camera_at_rest_gives_rest_and_no_depth(parked):
    clip, poses = parked
    trembling = poses.copy()
    trembling[:, :3, 3] += np.random.default_rng(0).normal(0, 5e-4, (3, 3))
    for given in (poses, trembling):
        found = pair_motions(with_odometry(clip, given), [(1, 0), (1, 2)])
        assert len(found) == 4
        for pair in found.values():
            assert pair.metric
            assert not pair.inverse_depth.any()
            assert turned(pair.motion.double().numpy(), np.eye(4)) < 0.2
            assert pair.motion[:3, 3].norm() < 5e-3


def test_frames_without_features_keep_their_odometry_and_tell_nothing_without(drive):
    clip, poses = drive
    blank = replace(clip, tracking=[np.full_like(g, 90) for g in clip.tracking])
    assert pair_motions(blank, [(0, 1)]) == {}
    found = pair_motions(with_odometry(blank, poses), [(0, 1)])
    np.testing.assert_allclose(found[0, 1].motion, truth(poses, 0, 1), atol=1e-5)
    np.testing.assert_allclose(found[1, 0].motion, truth(poses, 1, 0), atol=1e-5)
    assert not found[0, 1].inverse_depth.any()


def test_odometry_known_for_some_frames_leaves_the_others_to_the_pictures(drive):
    clip, poses = drive
    half = replace(clip, poses=poses, pose_known=np.array([True, True, False]))
    found = pair_motions(half, [(0, 1), (1, 2)])
    assert found[0, 1].metric
    assert not found[1, 2].metric


def test_no_pairs_no_motion(drive):
    assert pair_motions(drive[0], []) == {}


def test_a_clip_without_tracking_images_says_so(drive):
    with pytest.raises(ClipError, match="clip drawn was read without its tracking images"):
        pair_motions(replace(drive[0], tracking=[]), [(0, 1)])


def features(descriptors):
    descriptors = np.asarray(descriptors, np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    return Features(np.arange(2.0 * len(descriptors)).reshape(-1, 2), descriptors)


def test_matches_are_mutual_and_distinct():
    a = features([[1, 0.015, 0.005], [0, 1, 0], [0.1, 1, 0.3]])
    b = features([[0, 1, 0.05], [1, 0, 0], [1, 0.03, 0.01], [-1, -1, -1]])
    points_a, points_b = match(a, b)
    # The first of a has two twins in b; the third likes b's first best, which likes a's second better.
    assert points_a.tolist() == [a.points[1].tolist()]
    assert points_b.tolist() == [b.points[0].tolist()]


@pytest.mark.parametrize(("left", "right"), [(0, 5), (5, 0), (1, 5), (0, 0)])
def test_hardly_any_features_match_nothing(left, right):
    a, b = (Features(np.zeros((n, 2)), np.ones((n, 128), np.float32)) for n in (left, right))
    assert [m.shape for m in match(a, b)] == [(0, 2), (0, 2)]
