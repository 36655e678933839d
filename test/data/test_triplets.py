from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from ssmde_ros.data.augmentation import jitter_colors
from ssmde_ros.data.clip import Clip, ClipError
from ssmde_ros.data.pair_motion import POINTS, PairMotion
from ssmde_ros.data.synthetic import SyntheticWorld, WorldConfig
from ssmde_ros.data.triplets import Batch, TrainingClip, TripletConfig, Triplets, wanted_pairs
from ssmde_ros.geometry import PinholeCamera, back_project, look, sample

CAMERA = PinholeCamera(64, 32, 50.0, 52.0, 28.0, 17.0)  # off centre, so that mirroring has something to move


def counted(length, start=0):
    """Frames whose grey value is their number, brighter to the right."""
    value = torch.arange(start, start + length).reshape(-1, 1, 1, 1).expand(-1, 3, 32, 64)
    ramp = torch.arange(64).expand(length, 3, 32, 64)
    return Clip(
        "counted", (value + 2 * ramp).to(torch.uint8), CAMERA, np.arange(length) * 10**8, [str(i) for i in range(length)]
    )  # fmt: skip


def pair(number):
    """A motion and one point that tell which pair they belong to."""
    motion = torch.eye(4)
    motion[0, 3] = number
    pixels, inverse = torch.zeros(POINTS, 2), torch.zeros(POINTS)
    pixels[0], inverse[0] = torch.tensor([number, 5.0]), 1.0
    return PairMotion(motion, number % 2 == 0, pixels, inverse)


def same(a, b):
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(Batch)]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


@pytest.fixture
def clips():
    return [TrainingClip(counted(9)), TrainingClip(counted(6, 100))]


CONFIG = TripletConfig(gaps=(1, 2, 3), zoom=0.2, roll=3.0, seed=7)
PLAIN = TripletConfig(gaps=(1, 2, 3), flip=False, jitter=0.0)


def test_a_batch_is_the_same_from_any_start(clips):
    whole = list(Triplets(clips, CONFIG, 2, 12))
    assert len(whole) == 12
    resumed = Triplets(clips, CONFIG, 2, 12)
    resumed.start = 9
    late = list(resumed)
    assert [b.number.tolist() for b in late] == [[18, 19], [20, 21], [22, 23]]
    assert all(same(a, b) for a, b in zip(late, whole[9:], strict=True))
    assert same(resumed.batch(3), whole[3]), "nothing was drawn in between"
    assert next(iter(resumed)).number[0] == 18, "and again"


def test_another_seed_gives_other_samples(clips):
    a, b = (next(iter(Triplets(clips, replace(CONFIG, seed=s), 8, 1))) for s in (0, 1))
    assert a.index.tolist() != b.index.tolist()


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_samples_of_the_single_run(clips, world):
    alone = Triplets(clips, CONFIG, 2 * world, 5)
    shares = [Triplets(clips, CONFIG, 2, 5, rank, world) for rank in range(world)]
    for step in range(5):
        whole = alone.batch(step)
        parts = [s.batch(step) for s in shares]
        for name in ("frames", "augmented", "intrinsics", "motions", "pixels", "clip", "index", "number"):
            assert torch.equal(torch.cat([getattr(p, name) for p in parts]), getattr(whole, name))
    assert shares[0].steps_per_epoch == alone.steps_per_epoch


def test_an_epoch_sees_each_target_once_and_the_next_in_another_order(clips):
    triplets = Triplets(clips, CONFIG, 1, 1)
    count = len(triplets.targets)
    assert count == (9 - 2) + (6 - 2)
    epochs = [
        [(int(s["clip"]), int(s["index"])) for s in map(triplets.sample, range(e * count, (e + 1) * count))]
        for e in range(3)
    ]
    assert all(sorted(e) == triplets.targets for e in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize(("batch", "world", "steps"), [(1, 1, 11), (4, 1, 2.75), (2, 3, 11 / 6)])
def test_steps_per_epoch(clips, batch, world, steps):
    assert Triplets(clips, CONFIG, batch, 10, 0, world).steps_per_epoch == pytest.approx(steps)
    assert len(Triplets(clips, CONFIG, batch, 10, 0, world)) == 10


def test_sources_surround_the_target_in_time_order_within_the_clip(clips):
    triplets = Triplets(clips, PLAIN, 1, 1)
    gaps = set()
    for number in range(200):
        drawn = triplets.sample(number)
        values = (drawn["frames"][:, 0, 0, 0] * 255).round().long()
        target, before, after = values.tolist()
        gap = target - before
        assert gap == after - target
        assert gap in (1, 2, 3)
        first, length = ((0, 9), (100, 6))[int(drawn["clip"])]
        assert first <= before
        assert after < first + length
        assert target - first == int(drawn["index"])
        gaps.add((target, gap))
    assert {g for t, g in gaps if t == 1} == {1}, "near an end only the gaps that fit"
    assert {g for t, g in gaps if t == 4} == {1, 2, 3}


def test_wanted_pairs_are_those_that_samples_use():
    clip = counted(7)
    pairs = wanted_pairs(TrainingClip(clip), (2, 3))
    assert (0, 2) not in pairs, "frame 0 has nothing before it"
    assert {(t, t - 2) for t in range(2, 5)} | {(3, 0), (3, 6)} <= set(pairs)
    item = TrainingClip(clip, {p: pair(1.0) for p in pairs})
    triplets = Triplets([item], TripletConfig((2, 3)), 1, 1)
    assert all(triplets.sample(i)["motion_known"].all() for i in range(50))


def test_key_frames_are_used_with_their_own_gaps_alone():
    item = TrainingClip(counted(9), gaps={3: (1, 3), 5: (2,), 7: (4,)})  # 7 + 4 lies outside
    triplets = Triplets([item], TripletConfig((1,), flip=False), 1, 1)
    assert triplets.targets == [(0, 3), (0, 5)]
    seen = {tuple(int(f[0, 0, 0] * 255 + 0.5) for f in triplets.sample(i)["frames"]) for i in range(60)}
    assert seen == {(3, 2, 4), (3, 0, 6), (5, 3, 7)}
    assert set(wanted_pairs(item, (1,))) == {(3, 2), (3, 4), (3, 0), (3, 6), (5, 3), (5, 7)}


def test_each_pair_brings_its_own_motion_and_points(clips):
    clips[0].motions = {(4, 3): pair(43.0), (4, 5): pair(46.0)}
    triplets = Triplets(clips[:1], TripletConfig((1,), flip=False), 1, 1)
    for number in range(7):
        drawn = triplets.sample(number)
        if int(drawn["index"]) == 4:
            assert drawn["motion_known"].tolist() == [True, True]
            assert drawn["motion_metric"].tolist() == [False, True]
            assert drawn["motions"][:, 0, 3].tolist() == [43, 46]
            assert drawn["pixels"][:, 0, 0].tolist() == [43, 46]
            assert (drawn["inverse_depth"] > 0).sum(1).tolist() == [1, 1]
        else:
            assert not drawn["motion_known"].any()
            assert not drawn["motion_metric"].any()
            assert torch.equal(drawn["motions"], torch.eye(4).expand(2, 4, 4))
            assert not drawn["inverse_depth"].any()


def test_shapes_and_types(clips):
    batch = Triplets(clips, CONFIG, 3, 1).batch(0)
    assert batch.frames.shape == batch.augmented.shape == (3, 3, 3, 32, 64)
    assert batch.frames.dtype == batch.augmented.dtype == torch.float32
    assert batch.intrinsics.shape == (3, 3, 3)
    assert batch.motions.shape == (3, 2, 4, 4)
    assert batch.motion_known.shape == batch.motion_metric.shape == (3, 2)
    assert batch.motion_known.dtype == torch.bool
    assert batch.pixels.shape == (3, 2, POINTS, 2)
    assert batch.inverse_depth.shape == (3, 2, POINTS)
    assert batch.pseudo is None
    assert batch.depth is None
    assert batch.moving is None
    assert batch.clip.shape == batch.index.shape == (3,)
    assert batch.frames.min() >= 0
    assert batch.frames.max() <= 1


def test_maps_come_where_every_clip_has_them(clips):
    for item in clips:
        count = len(item.clip)
        item.pseudo = torch.arange(count).float().reshape(-1, 1, 1, 1).expand(count, 1, 32, 64)
        item.clip.depth = item.pseudo + 1
        item.clip.moving = item.pseudo > 2
    batch = Triplets(clips, CONFIG, 4, 1).batch(0)
    assert batch.pseudo.shape == (4, 1, 32, 64)
    torch.testing.assert_close(batch.pseudo[:, 0, 0, 0], batch.index.float(), msg="of the target")
    torch.testing.assert_close(batch.depth, batch.pseudo + 1)
    assert batch.moving.dtype == torch.bool
    clips[1].pseudo = None
    mixed = [Triplets(clips, CONFIG, 8, 2).batch(s) for s in range(2)]
    assert all(m.pseudo is None for m in mixed if m.clip.any())


def test_moving_a_batch_keeps_everything(clips):
    batch = Triplets(clips, CONFIG, 2, 5).batch(4)
    moved = batch.to("cpu")
    assert same(batch, moved)
    assert moved.number.tolist() == [8, 9]
    assert batch.to("meta").frames.device.type == "meta"
    assert batch.to("meta").pseudo is None


def test_a_target_is_mirrored_half_of_the_time_and_only_if_asked(clips):
    def mirrored(config):
        triplets = Triplets(clips, config, 1, 1)
        frames = [triplets.sample(i)["frames"] for i in range(200)]
        return np.mean([bool(f[0, 0, 0, 0] > f[0, 0, 0, -1]) for f in frames])

    assert 0.4 < mirrored(CONFIG) < 0.6
    assert mirrored(replace(CONFIG, flip=False)) == 0


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


def test_unknown_motions_stay_the_identity_when_rolled(clips):
    for number in range(5):
        drawn = Triplets(clips, CONFIG, 1, 1).sample(number)
        torch.testing.assert_close(drawn["motions"], torch.eye(4).expand(2, 4, 4))


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


def test_jitter_changes_colors_alike_in_all_frames_and_nothing_else(clips):
    plain = Triplets(clips, replace(CONFIG, jitter=0.0), 4, 1).batch(0)
    strong = Triplets(clips, replace(CONFIG, jitter=0.5), 4, 1).batch(0)
    assert torch.equal(plain.augmented, plain.frames)
    assert torch.equal(strong.frames, plain.frames), "the losses see the clean picture"
    assert torch.equal(strong.intrinsics, plain.intrinsics)
    assert torch.equal(strong.index, plain.index)
    assert not torch.equal(strong.augmented, strong.frames)
    assert strong.augmented.min() >= 0
    assert strong.augmented.max() <= 1


@pytest.mark.parametrize("strength", [0.1, 0.5, 0.99])
def test_one_look_for_all_frames(strength):
    """A pixel that keeps its color keeps it, whatever else enters the picture."""
    frames = torch.rand(3, 3, 8, 8)
    frames[1, :, :4], frames[2, :, :4] = 0, 1
    frames[:, :, 4:] = frames[:1, :, 4:]
    for seed in range(20):
        changed = jitter_colors(frames, np.random.default_rng(seed), strength)
        assert changed.isfinite().all()
        assert changed.min() >= 0
        assert changed.max() <= 1
        torch.testing.assert_close(changed[:1, :, 4:].expand(3, -1, -1, -1), changed[:, :, 4:])
        again = jitter_colors(frames, np.random.default_rng(seed), strength)
        assert torch.equal(changed, again)


def test_no_jitter_changes_nothing():
    frames = torch.rand(3, 3, 4, 4)
    assert torch.equal(jitter_colors(frames, np.random.default_rng(0), 0.0), frames)


@pytest.mark.parametrize("gaps", [(), (0,), (1, -2)])
def test_impossible_gaps_are_refused(gaps):
    with pytest.raises(ValueError, match="gaps must be positive frame distances"):
        TripletConfig(gaps=gaps)


@pytest.mark.parametrize(
    "changes", [{"zoom": -0.1}, {"zoom": 1.5}, {"roll": 60.0}, {"roll": -1.0}, {"zoom": float("nan")}]
)
def test_impossible_crops_are_refused(changes):
    with pytest.raises(ValueError, match="zoom must lie in"):
        TripletConfig(**changes)


@pytest.mark.parametrize("jitter", [-0.1, 1.0, 2.0, float("nan")])
def test_impossible_jitter_is_refused(jitter):
    with pytest.raises(ValueError, match=r"jitter must lie in \[0, 1\)"):
        TripletConfig(jitter=jitter)


@pytest.mark.parametrize("lengths", [(), (3,), (6, 4)])
def test_clips_too_short_for_the_gaps_say_so(lengths):
    with pytest.raises(ClipError, match=r"no clip has more than 6 frames, which a frame gap of 3 needs"):
        Triplets([TrainingClip(counted(n)) for n in lengths], TripletConfig((3, 5)), 1, 1)


def test_a_clip_too_short_beside_others_is_passed_over(clips):
    triplets = Triplets([*clips, TrainingClip(counted(2))], TripletConfig((1,)), 1, 1)
    assert {which for which, _ in triplets.targets} == {0, 1}


def test_clips_of_different_sizes_are_refused_at_once(clips):
    other = replace(clips[1].clip, images=torch.zeros(6, 3, 64, 96, dtype=torch.uint8))
    with pytest.raises(ClipError, match="clips must share one size, got 64x32, 96x64"):
        Triplets([clips[0], TrainingClip(other)], CONFIG, 1, 1)
