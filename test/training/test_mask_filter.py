"""The multi-view mask filter: who votes, who may teach, what moves."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.geometry import look
from ssmde_ros.training.mask_filter import MaskFilterConfig, TeacherViews, cleaned, feature_similarity, filter_mask
from test.training.box_before_wall import (
    COLUMNS,
    OPEN,
    STEP,
    H,
    K,
    W,
    box,
    features_of,
    motion,
    scene,
    seen_from,
    share,
)


def test_a_static_world_is_kept_nearly_whole():
    result = filter_mask(MaskFilterConfig(percentile=100), *scene())
    assert result.gates["kept"] > 0.93
    assert result.gates["moving"] == 0
    assert not result.dynamic.any()
    default = filter_mask(MaskFilterConfig(), *scene())
    assert default.gates["kept"] > 0.8
    assert default.gates["photometry"] < 0.86, "each source leaves out the worst pixels of its own"


def test_what_moves_is_voted_out_and_marked():
    result = filter_mask(MaskFilterConfig(percentile=100), *scene(shift=0.8))
    assert share(result.mask, box(-1)) == 0, "all but its corners, which the majority rounds"
    assert share(result.moving, box(-1)) > 0.9
    assert share(result.moving, ~box(3)) < 0.05, "the wall that the box hides or has hidden is seen by one view"
    assert share(result.mask, ~box(3)) > 0.85
    assert torch.equal(result.dynamic, result.moving), "this teacher agrees with itself everywhere"


@pytest.mark.parametrize("factor", [1.5, 0.6])
def test_wrong_depth_in_a_rectangle_is_voted_out(factor):
    depth = seen_from(0.0)[1]
    wrong = torch.zeros_like(depth, dtype=torch.bool)
    wrong[..., 4:14, 10:30] = True
    result = filter_mask(MaskFilterConfig(), *scene(depth=torch.where(wrong, factor * depth, depth)))
    assert share(result.mask, wrong) < 0.03, "its corners, which the majority rounds"
    assert share(result.moving, wrong) < 0.05, "half as far is a wrong depth, and no motion"
    assert result.mask.float().mean() > 0.6


def test_pixels_out_of_view_get_no_vote():
    target, sources, _, lens, teacher = scene()
    # Both cameras 2 m to the right: 25 pixels on the wall, 50 on the box; what lies at the left is seen by none.
    result = filter_mask(OPEN, target, sources, [motion(2.0)] * 2, lens, teacher)
    assert not result.mask[..., : COLUMNS.start].any()
    assert not result.mask[box(-1)].any()
    assert (result.mask | result.moving)[..., 45:].all()
    for gate in result.passed.values():
        assert not (gate & ~result.passed["view"]).any()
    assert not result.moving[..., :20].any(), "nobody saw it, so nobody can say that it moved"


@pytest.mark.parametrize("config", [OPEN, MaskFilterConfig()])
def test_a_camera_that_looks_away_confirms_nothing(config):
    target, sources, _, lens, teacher = scene()
    away = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0]))[None]
    result = filter_mask(config, target, sources, [away, away], lens, teacher)
    assert not result.mask.any()
    assert not result.moving.any()
    assert (result.confidence == 0).all()
    assert set(result.gates.values()) == {0.0}


# --- gates ---------------------------------------------------------------------------------------


def test_every_gate_can_be_switched_off_and_then_does_nothing():
    target, sources, motions, lens, teacher = scene(shift=0.8)
    nonsense = replace(
        teacher,
        source_depths=[1e3 * torch.rand_like(d) + 1e-3 for d in teacher.source_depths],
        features=torch.randn_like(teacher.features),
    )
    result = filter_mask(OPEN, target, [torch.rand_like(s) for s in sources], motions, lens, nonsense)
    for gate in ("geometry", "photometry", "features", "flow"):
        assert torch.equal(result.passed[gate], result.passed["view"]), gate
    assert torch.equal(result.mask, cleaned(result.passed["view"].any(1, keepdim=True), 0) & ~result.moving)
    torch.testing.assert_close(
        result.confidence, result.mask * result.passed["view"].float().mean(1, keepdim=True), rtol=0, atol=1e-6
    )


# A box that moves far away, and one that keeps pace with the camera and so never leaves its pixels.
FAR, PACE = 0.8, STEP


@pytest.mark.parametrize(
    ("gate", "on", "shift"),
    [
        ("geometry", {"geometry": 0.08}, FAR),
        ("photometry", {"identity": True}, PACE),
        ("photometry", {"percentile": 80.0}, FAR),
        ("features", {"features": 0.5}, FAR),
        ("flow", {"flow": 0.1}, FAR),
    ],
)
def test_each_gate_stops_what_it_is_for_and_no_other(gate, on, shift):
    result = filter_mask(replace(OPEN, **on), *scene(shift))
    stopped = [name for name, passed in result.passed.items() if not torch.equal(passed, result.passed["view"])]
    assert stopped == [gate]
    views = result.passed[gate].float().mean(1, keepdim=True)
    assert share(views, box(-1)) < 0.6
    assert share(views, ~box(4)) > 0.75


@pytest.mark.parametrize(("width", "passes"), [(320, False), (640, True)])
def test_the_flow_gate_allows_an_angle_and_not_a_number_of_pixels(width, passes):
    torch.manual_seed(0)
    texture = torch.nn.functional.avg_pool2d(torch.rand(1, 3, 100, 4 * width + 12), (5, 9), (1, 4), (2, 4))[..., :96, :]
    target, source = texture[..., :width], 0.2 * texture[..., :width] + 0.8 * texture[..., 1 : width + 1]
    lens = torch.tensor([[[width, 0, width / 2], [0, width, 48], [0, 0, 1.0]]])
    depth, features = torch.full((1, 1, 96, width), 5.0), torch.ones(1, 1, 24, width // 4)
    still = TeacherViews(depth, depth, depth, [depth], features, [features])
    gate = filter_mask(replace(OPEN, flow=0.1), target, [source], [torch.eye(4)[None]], lens, still).passed["flow"]
    passing = gate[..., 8:-8, 8:-8].float().mean()
    assert passing > 0.8 if passes else passing < 0.2


def test_strange_features_get_no_vote():
    target, sources, motions, lens, teacher = scene()
    opposite = replace(teacher, source_features=[-f for f in teacher.source_features])
    assert not filter_mask(MaskFilterConfig(), target, sources, motions, lens, opposite).mask.any()


def test_more_views_are_a_higher_hurdle_but_never_more_than_there_are():
    one, two, nine = (filter_mask(MaskFilterConfig(min_views=n), *scene(shift=0.1)) for n in (1, 2, 9))
    assert not (two.mask & ~one.mask).any()
    assert two.mask.sum() < one.mask.sum()
    assert torch.equal(two.mask, nine.mask)
    assert two.mask.any()


def test_confidence_counts_views_and_how_well_they_fit():
    result = filter_mask(MaskFilterConfig(percentile=100, features=-1), *scene())
    assert (result.confidence[~result.mask] == 0).all()
    both = result.passed["photometry"].all(1, keepdim=True) & result.passed["geometry"].all(1, keepdim=True)
    assert result.confidence[both & result.mask].mean() > 0.95
    depth = seen_from(0.0)[1]
    off = filter_mask(MaskFilterConfig(percentile=100, features=-1), *scene(depth=1.08 * depth))
    assert off.gates["geometry"] > 0.9
    assert off.confidence.mean() < 0.7 * result.confidence.mean()


# --- what moves ----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["flipped", "augmented"])
def test_a_teacher_that_contradicts_itself_is_not_reliable(which):
    target, sources, motions, lens, teacher = scene(shift=0.8)
    config = MaskFilterConfig()

    def dynamic(factor):
        doubted = replace(teacher, **{which: factor * teacher.depth})
        return filter_mask(config, target, sources, motions, lens, doubted)

    assert torch.equal(dynamic(1.09).dynamic, dynamic(1.09).moving)
    assert dynamic(1.09).moving.any()
    assert not dynamic(1.12).dynamic.any()
    assert not dynamic(1 / 1.12).dynamic.any()
    assert torch.equal(dynamic(1.12).mask, dynamic(1.0).mask), "the votes know nothing of it"


# --- robustness ----------------------------------------------------------------------------------


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    batch=st.integers(1, 2),
    geometry=st.sampled_from([0.0, 0.02, 0.5]),
    percentile=st.sampled_from([1.0, 50.0, 100.0]),
    identity=st.booleans(),
    features=st.sampled_from([-1.0, 0.0, 0.9]),
    flow=st.sampled_from([0.0, 0.1, 1.0]),
    min_views=st.integers(1, 3),
)
def test_anything_gives_masks_and_shares(seed, batch, geometry, percentile, identity, features, flow, min_views):
    torch.manual_seed(seed)
    config = MaskFilterConfig(geometry, percentile, identity, features, flow, min_views=min_views, min_area=100)

    def depth():
        return 10 ** (4 * torch.rand(batch, 1, H, W) - 2)

    motions = [torch.eye(4).repeat(batch, 1, 1) for _ in range(2)]
    for m in motions:
        m[:, :3] += 0.3 * torch.randn(batch, 3, 4)
    maps = torch.randn(3, batch, 8, H // 4, W // 4)
    teacher = TeacherViews(depth(), depth(), depth(), [depth(), depth()], maps[0], list(maps[1:]))
    target, *sources = torch.rand(3, batch, 3, H, W)
    before = [x.clone() for x in (target, *sources, *motions, teacher.depth, *teacher.source_depths)]
    result = filter_mask(config, target, sources, motions, K.expand(batch, -1, -1), teacher)
    assert all(0 <= value <= 1 for value in result.gates.values())
    assert {"view", "geometry", "photometry", "features", "flow", "kept", "moving"} == set(result.gates)
    assert torch.isfinite(result.confidence).all()
    assert 0 <= result.confidence.min() <= result.confidence.max() <= 1
    assert not (result.dynamic & ~result.moving).any()
    assert not (result.mask & result.moving).any()
    assert all(p.shape == (batch, 2, H, W) and p.dtype == torch.bool for p in result.passed.values())
    assert all(m.dtype == torch.bool for m in (result.mask, result.moving, result.dynamic))
    after = (target, *sources, *motions, teacher.depth, *teacher.source_depths)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)), "what was given is not touched"


def test_each_image_is_filtered_for_itself():
    one, two = scene(), scene(shift=0.8)
    maps = [f"source_{name}" for name in ("depths", "features")]

    def both(a, b):
        return torch.cat([a, b])

    teacher = TeacherViews(
        *(both(getattr(one[4], n), getattr(two[4], n)) for n in ("depth", "flipped", "augmented")),
        [both(a, b) for a, b in zip(getattr(one[4], maps[0]), getattr(two[4], maps[0]), strict=True)],
        both(one[4].features, two[4].features),
        [both(a, b) for a, b in zip(getattr(one[4], maps[1]), getattr(two[4], maps[1]), strict=True)],
    )
    images = [both(a, b) for a, b in zip(one[1], two[1], strict=True)]
    motions = [both(a, b) for a, b in zip(one[2], two[2], strict=True)]
    result = filter_mask(MaskFilterConfig(), both(one[0], two[0]), images, motions, both(K, K), teacher)
    for i, alone in enumerate((one, two)):
        expected = filter_mask(MaskFilterConfig(), *alone)
        assert torch.equal(result.mask[i : i + 1], expected.mask)
        assert torch.equal(result.moving[i : i + 1], expected.moving)
        torch.testing.assert_close(result.confidence[i : i + 1], expected.confidence)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_picture_that_shows_nothing_teaches_nothing_unless_it_may(level):
    _, _, motions, lens, teacher = scene()
    blank = torch.full((1, 3, H, W), level)
    empty = replace(
        teacher, features=torch.ones_like(teacher.features), source_features=[torch.ones_like(teacher.features)] * 2
    )
    result = filter_mask(MaskFilterConfig(features=-1), blank, [blank, blank], motions, lens, empty)
    assert not result.mask.any(), "moving explains it no better than standing still"
    allowed = filter_mask(MaskFilterConfig(features=-1, identity=False), blank, [blank, blank], motions, lens, empty)
    assert allowed.gates["kept"] > 0.9, "ties with the percentile pass"
    similar = filter_mask(MaskFilterConfig(identity=False), blank, [blank, blank], motions, lens, empty)
    assert not similar.mask.any(), "features that are the same everywhere say nothing"
    for each in (result, allowed, similar):
        assert torch.isfinite(each.confidence).all()
        assert all(np.isfinite(v) for v in each.gates.values())


def test_a_camera_that_stands_still_confirms_nothing_by_sight():
    target, _, _, lens, teacher = scene()
    still = replace(teacher, source_depths=[teacher.depth] * 2, source_features=[teacher.features] * 2)
    result = filter_mask(MaskFilterConfig(), target, [target, target], [motion(), motion()], lens, still)
    assert not result.mask.any(), "any depth explains a picture that does not change"
    assert not result.moving.any()


def test_similarity_of_features():
    target = seen_from(0.0)[0]
    features, other = features_of(target), features_of(seen_from(STEP)[0])
    same = look(torch.ones(1, 1, H, W), motion(), K)
    torch.testing.assert_close(feature_similarity(features, features, same), torch.ones(1, 1, H, W), rtol=0, atol=1e-3)
    shared = torch.randn(1, 16, 1, 1)
    torch.testing.assert_close(
        feature_similarity(features + 9 * shared, other, same),
        feature_similarity(features, other, same),
        rtol=0,
        atol=1e-4,
    )
    assert feature_similarity(features, -features, same).max() < -0.99
    assert (feature_similarity(torch.zeros_like(features), other, same) == 0).all()


@pytest.mark.parametrize(
    "options",
    [
        {"geometry": -0.1}, {"geometry": 1.0}, {"percentile": 0.0}, {"percentile": 101.0}, {"features": 1.0},
        {"features": -1.1}, {"agreement": 0.0}, {"min_views": 0}, {"min_area": -1}, {"flow": -0.1}, {"moving_depth": 0.0},
        {"moving_pixels": 0.0},
    ],
)  # fmt: skip
def test_thresholds_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MaskFilterConfig(**options)
