import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmde_ros.data.bags import Bag
from ssmde_ros.evaluation import METRIC_KEYS, Protocol, align_depth, depth_metrics, evaluate_frame, mean_metrics
from ssmde_ros.evaluation.bag import score_bag

TRUTH = np.array([1.0, 2.0, 4.0, 8.0])


def test_a_perfect_prediction_has_no_error():
    metrics = depth_metrics(TRUTH, TRUTH)
    assert [metrics[key] for key in METRIC_KEYS] == [0, 0, 0, 0, 0, 1, 1, 1]


def test_each_metric_by_hand():
    metrics = depth_metrics(np.array([2.0, 2.0, 3.0, 8.0]), TRUTH)
    assert metrics["abs_rel"] == pytest.approx((1 + 0 + 0.25 + 0) / 4)
    assert metrics["sq_rel"] == pytest.approx((1 + 0 + 0.25 + 0) / 4)
    assert metrics["rmse"] == pytest.approx((2 / 4) ** 0.5)
    assert metrics["rmse_log"] == pytest.approx(((np.log(2) ** 2 + np.log(0.75) ** 2) / 4) ** 0.5)
    assert metrics["log10"] == pytest.approx((np.log10(2) + np.log10(4 / 3)) / 4)
    assert (metrics["d1"], metrics["d2"], metrics["d3"]) == (0.5, 0.75, 0.75)


@given(scale=st.floats(1e-3, 1e3))
def test_median_alignment_undoes_any_scale(scale):
    np.testing.assert_allclose(align_depth(TRUTH * scale, TRUTH, "median"), TRUTH)


@given(scale=st.floats(0.05, 20), shift=st.floats(0, 2))
def test_affine_alignment_undoes_scale_and_shift_of_inverse_depth(scale, shift):
    np.testing.assert_allclose(align_depth(1 / (scale / TRUTH + shift), TRUTH, "affine"), TRUTH, rtol=1e-6)


def test_no_alignment_is_metric():
    assert depth_metrics(align_depth(2 * TRUTH, TRUTH, "none"), TRUTH)["abs_rel"] == pytest.approx(1)


def test_the_garg_crop_is_the_published_one():
    mask = Protocol(crop="garg").mask(np.ones((375, 1242)))
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (153, 371, 44, 1197)


def test_unknown_and_out_of_range_truth_does_not_count():
    truth = np.array([[0.0, np.nan, np.inf, 5.0, 90.0]])
    assert Protocol(max_depth=80).mask(truth).tolist() == [[False, False, False, True, False]]
    assert evaluate_frame(np.ones((1, 5)), np.zeros((1, 5)), Protocol()) is None


def test_a_smaller_prediction_is_resized():
    metrics = evaluate_frame(np.full((3, 4), 2.0), np.full((6, 8), 7.0), Protocol())
    assert metrics["abs_rel"] == pytest.approx(0)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_prediction_that_is_no_depth_is_refused(bad):
    with pytest.raises(ValueError, match="positive and finite"):
        evaluate_frame(np.full((2, 2), bad), np.ones((2, 2)), Protocol())


@pytest.mark.parametrize("values", [{"align": "guess"}, {"crop": "half"}, {"min_depth": 3, "max_depth": 2}])
def test_impossible_protocols_are_refused(values):
    with pytest.raises(ValueError, match="must|need"):
        Protocol(**values)


def test_frames_count_equally():
    few, many = depth_metrics(TRUTH, TRUTH), depth_metrics(np.repeat(2 * TRUTH, 9), np.repeat(TRUTH, 9))
    assert mean_metrics([few, many])["abs_rel"] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no frame"):
        mean_metrics([])


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "topic", "protocol", "expected", "frames"),
    [
        ("kitti_traffic", "/lidar/depth", Protocol("median", "garg", 1e-3, 80.0), (0.351, 9.13, 0.402), 52),
        ("kitchen", "/camera/depth/image_raw", Protocol("median", "none", 0.1, 10.0), (0.337, 0.627, 0.491), 350),
    ],
)
def test_a_constant_depth_scores_what_was_measured_for_it(recording, name, topic, protocol, expected, frames):
    with Bag(recording(name)) as bag:
        image = bag.choose("image", None, "--image-topic")
        score = score_bag(bag, image, topic, lambda picture: np.ones(picture.shape[:2], np.float32), protocol)
    assert score.frames == frames
    assert (score.metrics["abs_rel"], score.metrics["rmse"], score.metrics["d1"]) == pytest.approx(expected, abs=0.005)
