"""Samples: which frames, in which order, with which motions and points."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from ssmde_ros.data.augmentation import jitter_colors
from ssmde_ros.data.clip import Clip, ClipError
from ssmde_ros.data.pair_motion import POINTS, PairMotion
from ssmde_ros.data.triplets import Batch, TrainingClip, TripletConfig, Triplets, known_gaps, wanted_pairs
from ssmde_ros.geometry import PinholeCamera

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


def test_known_gaps_are_those_at_which_both_motions_are_known():
    metric, enough = pair(2), replace(pair(1), inverse_depth=torch.ones(POINTS))
    few = pair(3)  # of unit length, and one point to scale it with
    item = TrainingClip(counted(9), {(3, 2): metric, (3, 4): enough, (3, 1): metric, (4, 3): metric, (5, 4): enough})
    item.motions |= {(5, 6): few, (4, 2): enough, (4, 6): enough}
    assert known_gaps(item, (1, 2), min_points=24) == {3: (1,), 4: (2,)}
    assert known_gaps(item, (1, 2), min_points=1) == {3: (1,), 4: (2,), 5: (1,)}
    item.gaps = {4: (1, 2), 3: (2,)}
    assert known_gaps(item, (1, 2), min_points=24) == {4: (2,)}, "of those that the frame may be used with"
    assert known_gaps(TrainingClip(counted(9)), (1, 2), min_points=24) == {}


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


def test_unknown_motions_stay_the_identity_when_rolled(clips):
    for number in range(5):
        drawn = Triplets(clips, CONFIG, 1, 1).sample(number)
        torch.testing.assert_close(drawn["motions"], torch.eye(4).expand(2, 4, 4))


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
