"""What happens to the votes afterwards, and the filter on the synthetic world."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional as F

from ssmde_ros.geometry import look
from ssmde_ros.training.losses import depth_difference
from ssmde_ros.training.mask_filter import MaskFilterConfig, TeacherViews, cleaned, filter_mask
from test.training.box_before_wall import OPEN, features_of, scene, seen_from, share
from test.training.scenes import rendered_clip


def picture(text):
    return torch.tensor([[c == "#" for c in line] for line in text.split()])[None, None]


def cleaned_slowly(mask, min_area):
    """Majority and connected components once more, without torch and OpenCV."""
    padded = np.pad(mask, 1, mode="edge").astype(int)
    height, width = mask.shape
    left = np.array([[padded[r : r + 3, c : c + 3].sum() >= 5 for c in range(width)] for r in range(height)])
    result, todo = np.zeros_like(left), left.copy()
    for start in zip(*np.nonzero(left), strict=True):
        region, front = [], [start] if todo[start] else []
        todo[start] = False
        while front:
            r, c = front.pop()
            region.append((r, c))
            for near in ((r + i, c + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
                if 0 <= near[0] < height and 0 <= near[1] < width and todo[near]:
                    todo[near] = False
                    front.append(near)
        if len(region) >= min_area:
            for at in region:
                result[at] = True
    return result


@settings(max_examples=80, deadline=None)
@given(mask=arrays(bool, st.tuples(st.integers(2, 9), st.integers(2, 9))), min_area=st.integers(0, 12))
def test_cleaning_is_majority_then_area(mask, min_area):
    found = cleaned(torch.from_numpy(mask)[None, None], min_area)
    assert np.array_equal(found[0, 0].numpy(), cleaned_slowly(mask, min_area))


def test_specks_go_and_holes_close():
    mask = picture("........ .####... .#.##... .####... ........ ......#. ........")
    kept = cleaned(mask, 0)
    assert not kept[0, 0, 5, 6], "a speck"
    assert kept[0, 0, 2, 2], "a hole"
    assert not cleaned(mask, 20).any(), "all of it is small"
    assert torch.equal(mask, picture("........ .####... .#.##... .####... ........ ......#. ........"))


def test_regions_that_touch_at_a_corner_are_one():
    touching = picture("##.#...# .#.##... ####..#. ..###### .#.#...# ..##.#..")
    majority = cleaned(touching, 0)
    assert np.array_equal(majority[0, 0].numpy(), cleaned_slowly(touching[0, 0].numpy(), 0))
    assert torch.equal(cleaned(touching, int(majority.sum())), majority)


@pytest.mark.parametrize("min_area", [0, 1, 2, 48, 49])
def test_empty_and_full_masks(min_area):
    full = torch.ones(2, 1, 6, 8, dtype=torch.bool)
    assert not cleaned(~full, min_area).any()
    assert cleaned(full, min_area).all() == (min_area <= 48)
    mixed = torch.cat([full[:1], ~full[:1]])
    assert cleaned(mixed, min(min_area, 48)).flatten(1).all(1).tolist() == [True, False], "image by image"


def test_the_smallest_area_follows_the_size():
    # 40 pixels of a 320x256 image are 1.5 here: nothing that the majority leaves is dropped, until it is 400.
    depth = seen_from(0.0)[1]
    wrong = torch.ones_like(depth, dtype=torch.bool)
    wrong[..., 4:7, 4:7] = False
    arguments = scene(depth=torch.where(wrong, 3 * depth, depth))
    config = replace(OPEN, geometry=0.08, min_area=40, moving_pixels=1e3)
    assert filter_mask(config, *arguments).mask[..., 5, 5].all()
    assert not filter_mask(replace(config, min_area=400), *arguments).mask.any()


# --- the synthetic world -------------------------------------------------------------------------


def world_scene(kind, seed, interval):
    clip = rendered_clip(frames=3, kind=kind, seed=seed, interval=interval)
    frames, depth = clip.images.float() / 255, clip.depth.clamp(max=100.0)
    one = depth[1:2]
    sources = [frames[i : i + 1] for i in (0, 2)]
    motions = [torch.from_numpy(clip.motion(1, s)).float()[None] for s in (0, 2)]
    found = [features_of(frames[i : i + 1]) for i in range(3)]
    teacher = TeacherViews(one, one, one, [depth[0:1], depth[2:3]], found[1], [found[0], found[2]])
    return (frames[1:2], sources, motions, clip.camera.matrix()[None], teacher), clip.moving[1:2]


@pytest.mark.parametrize(("kind", "seed"), [("room", 2), ("room", 3), ("street", 1)])
def test_true_depth_of_a_static_world_passes(kind, seed):
    arguments, moving = world_scene(kind, seed, 0.1)
    votes = MaskFilterConfig(percentile=100, identity=False, features=-1, flow=0, moving_pixels=1e3)
    result = filter_mask(votes, *arguments)
    seen = result.passed["view"].any(1, keepdim=True)
    assert share(result.mask, seen & ~moving) > 0.95
    default = filter_mask(MaskFilterConfig(), *arguments)
    assert share(default.moving, ~moving) < 0.1
    assert share(default.mask, ~moving) > 0.6


@pytest.mark.parametrize(("kind", "seed"), [("room", 5), ("street", 4)])
def test_moving_objects_of_the_world_are_voted_out_where_they_fail_geometry(kind, seed):
    (target, sources, motions, lens, teacher), moving = world_scene(kind, seed, 0.4)
    misfits = []
    for number, m in enumerate(motions):
        view = look(teacher.depth, m, lens)
        at = F.grid_sample(
            teacher.source_depths[number],
            view.pixels.permute(0, 2, 3, 1) * torch.tensor([2 / 95, 2 / 63]) - 1,
            align_corners=True,
            padding_mode="border",
        )
        misfits.append(torch.where(view.valid, depth_difference(view.computed_depth, at), torch.inf))
    worst = torch.cat(misfits, 1).amin(1, keepdim=True)
    # Thin parts are left to the majority, on either side.
    failing = cleaned(moving & (worst >= 0.08) & torch.isfinite(worst), 3)
    assert failing.sum() > 30, "the test needs something that moves"
    result = filter_mask(MaskFilterConfig(), target, sources, motions, lens, teacher)
    assert not result.mask[failing].any()
    assert share(result.mask, moving) < 0.6 * share(result.mask, ~moving)


@pytest.mark.parametrize(("kind", "seed"), [("room", 5), ("street", 1)])
def test_moving_objects_of_the_world_are_found(kind, seed):
    arguments, moving = world_scene(kind, seed, 0.2)
    found = filter_mask(MaskFilterConfig(), *arguments).moving
    # By chance an eighth of it would be right; images of 96x64 are small for a flow.
    assert share(moving, found) > 0.55, "precision"
    assert share(found, moving) > 0.6, "recall"
