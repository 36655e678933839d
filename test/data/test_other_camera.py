"""Mirrored, cropped, rolled and tilted samples are as consistent as the recording."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ssmde_ros.data.clip import Clip
from ssmde_ros.data.pair_motion import POINTS, PairMotion
from ssmde_ros.data.synthetic import SyntheticWorld, WorldConfig
from ssmde_ros.data.triplets import TrainingClip, TripletConfig, Triplets
from ssmde_ros.geometry import PinholeCamera, back_project, look, sample

CAMERA = PinholeCamera(64, 32, 50.0, 52.0, 28.0, 17.0)  # off centre, so that mirroring has something to move


@pytest.fixture(scope="module")
def seen():
    """Three frames of a room with true motions and points, as one training clip."""
    camera = PinholeCamera(160, 128, 130.0, 132.0, 72.0, 66.0)
    world = SyntheticWorld(WorldConfig("room", 2, camera, noise=0.0))
    frames = [world.render(t) for t in (0.0, 0.1, 0.2)]
    poses = torch.stack([f.pose for f in frames])
    motions = {}
    rng = np.random.default_rng(0)
    for source in (0, 2):
        u, v = torch.from_numpy(rng.integers(0, 160, 100)), torch.from_numpy(rng.integers(0, 128, 100))
        pixels, inverse = torch.zeros(POINTS, 2), torch.zeros(POINTS)
        pixels[:100], inverse[:100] = torch.stack([u, v], 1).float(), 1 / frames[1].depth[0, v, u]
        motions[1, source] = PairMotion(torch.linalg.inv(poses[source]) @ poses[1], True, pixels, inverse)
    clip = Clip(
        "room", torch.stack([(f.image * 255).round().to(torch.uint8) for f in frames]), camera, np.arange(3),
        ["0", "1", "2"], depth=torch.stack([f.depth for f in frames]), moving=torch.stack([f.moving for f in frames]),
    )  # fmt: skip
    return TrainingClip(clip, motions, clip.depth)


def recomposed(item, count=6, **changes):
    """Samples of the one target of the clip, cropped and rolled."""
    config = TripletConfig((1,), flip=False, jitter=0.0, **changes)
    return list(Triplets([item], config, 1, count))


def both_sides(item):
    """The one target of the clip as it is, and mirrored."""
    triplets = Triplets([item], TripletConfig((1,), jitter=0.0), 1, 100)
    plain = item.clip.images[1].float() / 255
    batches = list(triplets)
    as_is = next(b for b in batches if torch.equal(b.frames[0, 0], plain))
    mirrored = next(b for b in batches if torch.equal(b.frames[0, 0], plain.flip(-1)))
    return as_is, mirrored


def reprojection(batch, source):
    view = look(batch.depth, batch.motions[:, source], batch.intrinsics)
    error = (sample(batch.frames[:, 1 + source], view) - batch.frames[:, 0]).abs().mean(1, keepdim=True)
    shown = batch.inside & (sample(batch.inside.float(), view) > 0.99)
    return float(error[view.valid & shown & ~batch.moving].mean())


def test_a_mirrored_sample_is_as_consistent_as_it_was(seen):
    as_is, mirrored = both_sides(seen)
    for source in (0, 1):
        still = (as_is.frames[:, 1 + source] - as_is.frames[:, 0]).abs().mean()
        assert reprojection(as_is, source) < 0.35 * still, "the truth explains the difference"
        assert reprojection(mirrored, source) == pytest.approx(reprojection(as_is, source), rel=0.02)
    assert torch.equal(mirrored.moving, as_is.moving.flip(-1))
    assert torch.equal(mirrored.pseudo, as_is.pseudo.flip(-1))


def test_a_mirrored_motion_is_a_rigid_motion(seen):
    _, mirrored = both_sides(seen)
    turn = mirrored.motions[0, :, :3, :3]
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3).expand(2, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(2))


def test_points_stay_on_their_surface_when_mirrored(seen):
    for batch in both_sides(seen):
        for source in (0, 1):
            known = batch.inverse_depth[0, source] > 0
            u, v = batch.pixels[0, source, known].round().long().unbind(1)
            torch.testing.assert_close(1 / batch.inverse_depth[0, source, known], batch.depth[0, 0, v, u])


@pytest.mark.parametrize(
    "changes", [{"zoom": 0.5}, {"roll": 8.0}, {"zoom": 0.3, "roll": 5.0}, {"tilt": 10.0}, {"tilt": 6.0, "roll": 5.0}]
)
def test_a_cropped_and_rolled_sample_is_as_consistent_as_it_was(seen, changes):
    as_is, _ = both_sides(seen)
    for batch in recomposed(seen, **changes):
        assert batch.frames.shape == as_is.frames.shape
        for source in (0, 1):
            # Enlarging blurs, and a tilt brings the blur of resampling to every pixel.
            assert reprojection(batch, source) < 1.6 * reprojection(as_is, source)
            still = (batch.frames[:, 1 + source] - batch.frames[:, 0]).abs().mean()
            assert reprojection(batch, source) < 0.5 * still


def test_a_crop_lies_within_the_picture_and_keeps_depth(seen):
    clip = seen.clip
    scales = []
    for batch in recomposed(seen, 12, zoom=1.0):
        fx, cx, cy = batch.intrinsics[0, 0, 0], batch.intrinsics[0, 0, 2], batch.intrinsics[0, 1, 2]
        scale = float(fx / clip.camera.fx)
        scales.append(scale)
        # Where the borders of the new picture lie in the old one.
        left = (-0.5 - cx) / scale + clip.camera.cx
        top = (-0.5 - cy) / scale + clip.camera.cy
        assert left >= -0.5 - 1e-3
        assert top >= -0.5 - 1e-3
        assert left + 160 / scale <= 159.5 + 1e-3
        assert top + 128 / scale <= 127.5 + 1e-3
        assert set(batch.depth.unique().tolist()) <= set(clip.depth[1].unique().tolist())
        assert torch.equal(batch.motions, both_sides(seen)[0].motions), "a crop is no motion"
    assert 1 <= min(scales) < max(scales) <= 2


def test_a_roll_turns_about_the_optical_axis(seen):
    as_is, _ = both_sides(seen)
    for batch in recomposed(seen, roll=10.0):
        assert torch.equal(batch.intrinsics, as_is.intrinsics)
        motion, before = batch.motions[0, 0], as_is.motions[0, 0]
        torch.testing.assert_close(motion[2, 3], before[2, 3])
        torch.testing.assert_close(motion[:2, 3].norm(), before[:2, 3].norm())
        torch.testing.assert_close(motion[:3, :3].trace(), before[:3, :3].trace())
        torch.testing.assert_close(motion[:3, :3] @ motion[:3, :3].mT, torch.eye(3))


def test_a_tilt_changes_depth_as_the_axis_turns(seen):
    """A plane that a turned camera sees stays one plane, at the distance it had."""
    wall = replace(seen, clip=replace(seen.clip, depth=torch.full_like(seen.clip.depth, 3.0)))
    turned = 0
    for batch in recomposed(wall, tilt=15.0):
        points = back_project(batch.depth, batch.intrinsics)[0][:, batch.inside[0, 0]].T.double()
        normal = torch.linalg.lstsq(points, torch.ones(len(points), 1, dtype=torch.float64)).solution[:, 0]
        assert (points @ normal - 1).abs().max() < 1e-4
        assert 1 / normal.norm() == pytest.approx(3.0, rel=1e-4)
        turned += int(normal[2] / normal.norm() < 0.999)
        assert 0.3 < batch.inside.float().mean() <= 1
    assert turned > 0


def test_pseudo_depth_turns_along_in_its_own_convention(seen):
    depth = torch.full_like(seen.clip.depth, 3.0)
    for convention, pseudo in (("depth", 2 * depth), ("inverse_depth", 2 / depth)):
        item = replace(seen, clip=replace(seen.clip, depth=depth), pseudo=pseudo, pseudo_convention=convention)
        for batch in recomposed(item, tilt=15.0):
            wanted = 2 * batch.depth if convention == "depth" else 2 / batch.depth
            torch.testing.assert_close(batch.pseudo, wanted)


def test_points_of_a_cropped_sample_are_in_the_picture_and_on_their_surface(seen):
    kept = 0
    for batch in recomposed(seen, zoom=0.6, roll=5.0):
        known = batch.inverse_depth[0, 0] > 0
        kept += int(known.sum())
        u, v = batch.pixels[0, 0, known].unbind(1)
        assert u.min() >= 0
        assert v.min() >= 0
        assert u.max() <= 159
        assert v.max() <= 127
        error = batch.inverse_depth[0, 0, known] * batch.depth[0, 0, v.round().long(), u.round().long()] - 1
        assert error.abs().median() < 0.01, "silhouettes aside"
    assert 100 < kept < 6 * 100, "some left the picture"


def test_the_sky_stays_infinite_or_finite_when_resampled(seen):
    sky = seen.clip.depth.clone()
    sky[:, :, :40] = torch.inf
    item = replace(seen, clip=replace(seen.clip, depth=sky))
    for batch in recomposed(item, zoom=0.3, roll=5.0):
        assert not batch.depth.isnan().any()
        assert batch.depth.isinf().any()
