from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from ssmde_ros.data.clip import ClipError
from ssmde_ros.data.synthetic import SyntheticWorld
from ssmde_ros.data.synthetic.clips import DynamicWorld, dynamic_clips, true_motions

WORLD = DynamicWorld(width=64, height=32, frames=3)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    cache = tmp_path_factory.mktemp("clips")
    return dynamic_clips(WORLD, 4, 100, cache), cache


def same(a, b):
    return (
        (a.name, a.names, a.camera) == (b.name, b.names, b.camera)
        and np.array_equal(a.stamps, b.stamps)
        and np.array_equal(a.poses, b.poses)
        and all(torch.equal(getattr(a, k), getattr(b, k)) for k in ("images", "depth", "moving"))
    )


def test_streets_and_rooms_in_turn_each_once(recorded):
    clips, _ = recorded
    assert [c.name.split("-")[0] for c in clips] == ["street", "room", "street", "room"]
    assert len({c.name for c in clips}) == 4
    for clip in clips:
        assert clip.images.shape == (3, 3, 32, 64)
        assert clip.images.dtype == torch.uint8
        assert clip.depth.shape == clip.moving.shape == (3, 1, 32, 64)
        assert clip.moving.dtype == torch.bool
        assert not clip.depth.isnan().any()
        assert (clip.depth > 0).all()
        assert (clip.camera.width, clip.camera.height) == (64, 32)
        assert len(clip.names) == len(set(clip.names)) == 3
        assert (np.diff(clip.stamps) > 0).all()


def test_every_clip_has_moving_pixels_and_travel(recorded):
    for clip in recorded[0]:
        assert clip.moving.float().mean() >= WORLD.min_moving
        shift = [np.linalg.norm((b - a)[:3, 3]) for a, b in pairwise(clip.poses)]
        assert np.median(shift) >= WORLD.min_travel * float(clip.depth[0][clip.depth[0].isfinite()].median())
        assert clip.pose_known.all()
        np.testing.assert_allclose(clip.motion(0, 2) @ clip.motion(2, 0), np.eye(4), atol=1e-9)


def test_what_moves_moves_and_what_stands_does_not(recorded):
    """Away from moving pixels the depth of one frame says where the next one sees the same surface."""
    from ssmde_ros.geometry import look, sample

    for clip in recorded[0]:
        k = clip.camera.matrix()[None]
        far = clip.depth.clamp(max=200)
        view = look(far[:1], torch.from_numpy(clip.motion(0, 1)).float()[None], k)
        ahead = sample(far[1:2], view)
        error = ((ahead - view.computed_depth).abs() / view.computed_depth)[view.valid & ~clip.moving[:1]]
        assert error.median() < 0.03


def test_another_run_draws_the_same(recorded, tmp_path):
    clips, _ = recorded
    assert all(same(a, b) for a, b in zip(clips, dynamic_clips(WORLD, 4, 100, tmp_path), strict=True))


def test_what_is_on_disk_is_not_drawn_again(recorded, monkeypatch):
    clips, cache = recorded
    monkeypatch.setattr(SyntheticWorld, "render", lambda *_: pytest.fail("drawn twice"))
    before = {p: p.stat().st_mtime_ns for p in cache.iterdir()}
    assert all(same(a, b) for a, b in zip(clips, dynamic_clips(WORLD, 4, 100, cache), strict=True))
    assert {p: p.stat().st_mtime_ns for p in cache.iterdir()} == before
    assert not list(cache.glob("*.partial"))


def test_fewer_clips_are_the_first_of_more(recorded):
    clips, cache = recorded
    assert all(same(a, b) for a, b in zip(clips, dynamic_clips(WORLD, 2, 100, cache), strict=False))


def test_other_worlds_do_not_share_files(recorded):
    clips, cache = recorded
    count = len(list(cache.iterdir()))
    (other,) = dynamic_clips(replace(WORLD, noise=0.05), 1, 100, cache)
    assert len(list(cache.iterdir())) > count
    assert other.name != clips[0].name
    assert not torch.equal(other.images, clips[0].images)
    assert torch.equal(other.depth, clips[0].depth), "the sensor is noisier, the scene the same"


def test_what_no_scene_offers_is_not_looked_for_forever(tmp_path):
    with pytest.raises(ClipError, match=r"scenes gave 0 of 1 clips; lower min_moving, min_travel"):
        dynamic_clips(replace(WORLD, width=32, height=32, min_moving=0.99), 1, 0, tmp_path)


def test_true_motions_are_those_of_the_poses_both_ways_without_points(recorded):
    clip = recorded[0][0]
    found = true_motions(clip)
    assert sorted(found) == [(t, s) for t in range(3) for s in range(3) if t != s]
    for (target, source), pair in found.items():
        assert pair.metric
        assert not pair.inverse_depth.any()
        np.testing.assert_allclose(pair.motion, clip.motion(target, source), atol=1e-5)
    assert true_motions(replace(clip, poses=None, pose_known=None)) == {}
