"""Regions, crops and range bins: closed forms, and every pixel counted once."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.evaluation import (
    PROTOCOLS,
    Protocol,
    RangeErrors,
    align_frame,
    evaluate_frame,
    mean_regions,
    named_protocol,
    score_regions,
)

METRIC = Protocol(align="none")


def score(prediction, truth, moving=None, protocol=METRIC):
    return score_regions(align_frame(np.asarray(prediction, float), np.asarray(truth, float), protocol), moving)


def test_an_error_on_moving_objects_alone_is_found_there_alone():
    truth = np.full((4, 5), 10.0)
    moving = np.zeros((4, 5), bool)
    moving[1, :4] = True
    made = score(np.where(moving, 20.0, 10.0), truth, moving)
    assert made.pixels == {"full": 20, "static": 16, "dynamic": 4}
    assert made.metrics["static"]["abs_rel"] == 0
    assert made.metrics["dynamic"]["abs_rel"] == pytest.approx(1)
    assert made.metrics["dynamic"]["d3"] == 0
    assert made.metrics["dynamic"]["rmse_log"] == pytest.approx(np.log(2))
    assert made.metrics["full"]["abs_rel"] == pytest.approx(0.2)


@pytest.mark.parametrize("align", ["median", "affine"])
def test_one_alignment_serves_all_regions(align):
    """Aligned on its own, the moving region would come out perfect."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(2, 20, (30, 40))
    moving = np.zeros(truth.shape, bool)
    moving[:, :4] = True
    made = score(3 * np.where(moving, 0.5 * truth, truth), truth, moving, Protocol(align))
    assert made.metrics["static"]["d1"] > 0.9
    assert made.metrics["dynamic"]["d1"] < 0.1
    if align == "median":
        alone = align_frame(1.5 * truth, truth, Protocol(align))
        assert score_regions(alone).metrics["full"]["abs_rel"] == pytest.approx(0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1), st.sampled_from(list(PROTOCOLS)))
def test_static_and_dynamic_pixels_make_up_the_image(seed, known, moves, name):
    rng = np.random.default_rng(seed)
    truth = np.where(rng.random((24, 32)) < known, rng.uniform(0.05, 300, (24, 32)), 0)
    moving = rng.random((24, 32)) < moves
    protocol = PROTOCOLS[name]
    frame = align_frame(rng.uniform(1, 5, (24, 32)), truth, protocol)
    if frame is None:
        assert not protocol.mask(truth).any()
        return
    made = score_regions(frame, moving)
    assert made.pixels["full"] == protocol.mask(truth).sum() == made.pixels["static"] + made.pixels["dynamic"]
    assert set(made.metrics) == {region for region, count in made.pixels.items() if count}
    for key in ("abs_rel", "sq_rel", "log10", "d1", "d2", "d3"):
        parts = [made.pixels[r] * made.metrics[r][key] for r in ("static", "dynamic") if r in made.metrics]
        assert sum(parts) == pytest.approx(made.pixels["full"] * made.metrics["full"][key])
    # The mask changes nothing on the full image.
    assert made.metrics["full"] == score_regions(frame).metrics["full"]
    assert made.metrics["full"] == evaluate_frame(frame.raw, truth, protocol)


def test_a_frame_without_a_region_is_not_in_its_mean():
    truth, moving = np.full((2, 2), 4.0), np.array([[True, False], [False, False]])
    still = score(truth, truth, np.zeros((2, 2), bool))
    mover = score(np.where(moving, 6.0, 4.0), truth, moving)
    unmasked = score(2 * truth, truth)
    means = mean_regions([still, mover, unmasked])
    assert {name: (found.frames, found.pixels) for name, found in means.items()} == {
        "full": (3, 12), "static": (2, 7), "dynamic": (1, 1),
    }  # fmt: skip
    assert means["dynamic"].metrics["abs_rel"] == pytest.approx(0.5)
    assert means["static"].metrics["abs_rel"] == 0
    assert means["full"].metrics["abs_rel"] == pytest.approx((0 + 0.125 + 1) / 3)


def test_no_moving_pixel_anywhere_is_no_dynamic_metric_and_no_mask_no_region():
    truth = np.full((2, 2), 4.0)
    nothing = mean_regions([score(truth, truth, np.zeros((2, 2), bool))])["dynamic"]
    assert (nothing.metrics, nothing.frames, nothing.pixels) == (None, 0, 0)
    assert set(mean_regions([score(truth, truth)])) == {"full"}


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match="moving mask is"):
        score(np.ones((2, 2)), np.ones((2, 2)), np.zeros((2, 3), bool))


def test_the_whole_map_is_aligned_as_the_counted_pixels_are():
    truth = np.array([[2.0, 0.0], [4.0, 8.0]])
    frame = align_frame(1 / (2 / np.where(truth > 0, truth, 1e9) + 0.1), truth, Protocol("affine", max_depth=60))
    depth = frame.depth_map()
    np.testing.assert_allclose(depth[frame.counted], frame.prediction)
    assert depth[0, 1] == 60
    np.testing.assert_allclose(frame.prediction, frame.truth)


@pytest.mark.parametrize(
    ("size", "box"),
    [((480, 640), (45, 471, 41, 601)), ((240, 320), (22, 235, 20, 300)), ((960, 1280), (90, 942, 82, 1202))],
)
def test_the_nyu_crop_keeps_its_proportions(size, box):
    rows, columns = np.nonzero(Protocol(crop="nyu", max_depth=10).mask(np.ones(size)))
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == box
    assert len(rows) == (box[1] - box[0]) * (box[3] - box[2])


def test_presets_are_those_of_the_benchmarks():
    told = {name: (p.min_depth, p.max_depth, p.crop, p.align) for name, p in PROTOCOLS.items()}
    assert told == {
        "kitti": (1e-3, 80, "garg", "median"), "nyu": (0.1, 10, "nyu", "median"), "ddad": (0.1, 200, "none", "median"),
        "bonn": (0.1, 10, "none", "median"), "tum": (0.1, 10, "none", "median"), "none": (1e-3, 80, "none", "median"),
    }  # fmt: skip
    with pytest.raises(ValueError, match="unknown protocol 'cityscapes'; known are kitti, nyu"):
        named_protocol("cityscapes")


def test_each_range_bin_by_hand():
    errors = RangeErrors(0.5, 10)
    assert errors.edges == pytest.approx([0.5, 0.5**0.5, 1, 2**0.5, 2, 8**0.5, 4, 32**0.5, 8, 10])
    errors.add(np.array([1.0, 1.0, 1.1]), np.array([1.0, 1.25, 1.0]))
    errors.add(np.array([5.0, 6.0, 10.0]), np.array([5.0, 5.0, 5.0]))
    near, empty, hollow, void, far = errors.table()
    assert (near.near, near.pixels, far.pixels, far.far) == (1, 3, 3, pytest.approx(32**0.5))
    assert near.abs_rel == pytest.approx((0 + 0.2 + 0.1) / 3)
    assert near.d1 == pytest.approx(2 / 3)
    assert near.bias == 0
    assert far.bias == pytest.approx(np.log(1.2), abs=5e-4)
    assert far.d1 == pytest.approx(2 / 3)
    for bin_ in (empty, hollow, void):
        assert (bin_.pixels, bin_.abs_rel, bin_.d1, bin_.bias) == (0, None, None, None)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(list(PROTOCOLS)), st.floats(0.3, 3))
def test_range_bins_hold_every_pixel_once(seed, name, factor):
    rng = np.random.default_rng(seed)
    protocol = Protocol("none", "none", PROTOCOLS[name].min_depth, PROTOCOLS[name].max_depth)
    errors, frames = RangeErrors(protocol.min_depth, protocol.max_depth), []
    for _ in range(3):
        truth = rng.uniform(0.0, 250, (20, 30)).astype(np.float32)
        truth[0] = rng.uniform(0, 1, 30)
        frame = align_frame(factor * truth + 1e-6, truth, protocol)
        frames.append(frame)
        errors.add(frame.prediction, frame.truth)
    table = errors.table()
    total = sum(len(frame.truth) for frame in frames)
    assert sum(bin_.pixels for bin_ in table) == total
    expected = sum((np.abs(f.prediction - f.truth) / f.truth).sum() for f in frames)
    assert sum(b.pixels * b.abs_rel for b in table if b.pixels) == pytest.approx(expected)
    assert all(b.near < b.far == after.near for b, after in itertools.pairwise(table))
    # Away from the clamp the bias of a constant factor is its logarithm.
    inner = [b for b in table if b.pixels and b.near * factor > 1.1e-1 and b.far * factor < 0.9 * protocol.max_depth]
    assert all(b.bias == pytest.approx(np.log(factor), abs=1e-3) for b in inner if b.near > 0.2)
