import logging

import cv2
import numpy as np
import pytest
import torch

from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import CameraCalibration, PinholeCamera
from ssmde_ros.networks import DepthNet, DepthNetConfig, WeightsError, load_depth_net, save_depth_net
from ssmde_ros.runtime import DepthEstimator, EngineConfig, EstimatorConfig, Rectifier, color_depth, create_engine
from ssmde_ros.runtime.estimator import network_size
from ssmde_ros.runtime.openvino_engine import native_bf16

RNG = np.random.default_rng(2)
IMAGE = cv2.GaussianBlur(RNG.integers(0, 256, (96, 128, 3), dtype=np.uint8), (0, 0), 3)
CAMERA = PinholeCamera(128, 96, 100.0, 100.0, 63.5, 47.5)
TORCH = EngineConfig("torch", "cpu")
BENT = CameraCalibration(128, 96, (100, 0, 63.5, 0, 100, 47.5, 0, 0, 1), (0.3, 0.1, 0, 0, 0))


@pytest.fixture(scope="module")
def estimator(weights):
    return DepthEstimator(weights, EstimatorConfig(TORCH))


def lite_mono():
    torch.manual_seed(0)
    net = DepthNet(DepthNetConfig("lite_mono_tiny", (16, 32, 64), padding="reflect", normalisation="grey"))
    for name, value in net.named_parameters():
        if name.endswith("gamma"):  # in a fresh network they switch its blocks off
            torch.nn.init.normal_(value, std=0.3)
    return net.eval()


@pytest.mark.parametrize("name", ["torch", "openvino"])
@pytest.mark.parametrize("imported", [False, True])
def test_engines_agree_with_the_network(weights, name, imported):
    if name == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed here")
    net = lite_mono() if imported else load_depth_net(weights)[0]
    engine = create_engine(net, (96, 128), EngineConfig(name, "cpu", precision="fp32"))
    with torch.inference_mode():
        expected = net.depth(torch.from_numpy(IMAGE).permute(2, 0, 1)[None].float() / 255)[0, 0].numpy()
    np.testing.assert_allclose(engine.infer(IMAGE), expected, rtol=1e-3)
    assert (engine.name, engine.device, engine.precision) == (name, "cpu", "fp32")


def test_openvino_takes_sixteen_bits_where_the_processor_multiplies_them(weights):
    pytest.importorskip("openvino", reason="OpenVINO is not installed here")
    net, _ = load_depth_net(weights)
    torch.nn.init.normal_(net.decoder.heads[0].weight, std=0.07)  # a new head sees one depth: nothing to round
    exact = create_engine(net, (96, 128), TORCH).infer(IMAGE).copy()
    engine = create_engine(net, (96, 128), EngineConfig("openvino", "cpu"))
    assert engine.precision == ("bf16" if native_bf16() else "fp32")
    error = np.abs(engine.infer(IMAGE) / exact - 1)
    assert error.mean() < (1e-2 if native_bf16() else 1e-4)
    assert (error.max() > 1e-4) == native_bf16()  # it is not fp32 under another name


def test_a_missing_gpu_falls_back_with_a_warning(weights, caplog):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    net, _ = load_depth_net(weights)
    with caplog.at_level(logging.WARNING):
        assert create_engine(net, (64, 96), EngineConfig("torch", "cuda")).device == "cpu"
    assert "sees no GPU: running on the CPU" in caplog.text


@pytest.mark.parametrize(
    "values",
    [
        {"name": "magic"},
        {"device": "tpu"},
        {"device": "cuda:x"},
        {"device": "0"},
        {"threads": -1},
        {"precision": "int4"},
    ],
)
def test_impossible_engines_are_refused(values):
    with pytest.raises(ValueError, match="engine|device|threads|precision"):
        EngineConfig(**values)


def test_depth_has_the_size_of_the_image_and_its_camera(estimator):
    frame = estimator.estimate(IMAGE, CameraCalibration.from_pinhole(CAMERA))
    assert frame.depth.shape == frame.valid.shape == (96, 128)
    assert frame.camera == CAMERA
    assert frame.depth.dtype == np.float32
    assert set(frame.stages_ms) == {"preprocess", "inference", "postprocess"}


def test_without_calibration_there_is_depth_but_no_camera(estimator):
    frame = estimator.estimate(IMAGE)
    assert frame.camera is None
    assert frame.valid.any()


def test_depth_at_network_size_has_the_camera_scaled_in_both_directions(weights):
    small = DepthEstimator(weights, EstimatorConfig(TORCH, input_size=(64, 32), full_size=False))
    frame = small.estimate(IMAGE, CameraCalibration.from_pinhole(CAMERA))
    assert frame.depth.shape == (32, 64)
    assert frame.image.shape == (32, 64, 3)
    assert frame.camera == CAMERA.resized(64, 32)
    assert frame.camera.fx / frame.camera.fy == pytest.approx(0.5 / (1 / 3))


def test_range_limits_follow_rep_117(weights):
    free = DepthEstimator(weights, EstimatorConfig(TORCH, min_depth=0, max_depth=1e9)).estimate(IMAGE).depth.copy()
    low, high = np.percentile(free, [30, 70]).astype(np.float32)  # as precise as what they are compared with
    frame = DepthEstimator(weights, EstimatorConfig(TORCH, min_depth=float(low), max_depth=float(high))).estimate(IMAGE)
    assert np.array_equal(np.isneginf(frame.depth), free < low)
    assert np.array_equal(np.isposinf(frame.depth), free > high)
    assert np.array_equal(frame.valid, (free >= low) & (free <= high))


def test_scale_multiplies_before_the_limits(weights):
    one = DepthEstimator(weights, EstimatorConfig(TORCH, max_depth=1e9)).estimate(IMAGE).depth.copy()
    three = DepthEstimator(weights, EstimatorConfig(TORCH, scale=3.0, max_depth=1e9)).estimate(IMAGE).depth
    np.testing.assert_allclose(three, 3 * one, rtol=1e-6)


def test_image_sizes_may_change_from_frame_to_frame(estimator):
    for height, width in ((96, 128), (50, 200), (97, 131), (96, 128)):
        assert estimator.estimate(cv2.resize(IMAGE, (width, height))).depth.shape == (height, width)


def test_a_calibration_of_another_size_is_refused(estimator):
    with pytest.raises(ValueError, match="64x48, its calibration for 128x96"):
        estimator.estimate(IMAGE[:48, :64], CameraCalibration.from_pinhole(CAMERA))


@pytest.mark.parametrize("image", [IMAGE[..., 0], IMAGE.astype(np.float32), IMAGE[:0]])
def test_what_is_no_image_is_refused(estimator, image):
    with pytest.raises(ValueError, match=r"\[H, W, 3\] uint8"):
        estimator.estimate(image)


def test_the_callers_image_is_left_alone(estimator):
    before = IMAGE.copy()
    estimator.estimate(IMAGE, BENT, with_confidence=True)
    assert np.array_equal(IMAGE, before)


def test_confidence_is_the_agreement_with_the_mirror_image(estimator):
    frame = estimator.estimate(IMAGE, with_confidence=True)
    assert frame.confidence.shape == (96, 128)
    assert 0 <= frame.confidence.min() <= frame.confidence.max() <= 1
    symmetric = np.hstack([IMAGE[:, :64], IMAGE[:, :64][:, ::-1]])
    itself = estimator.estimate(np.full_like(symmetric, 90), with_confidence=True).confidence
    assert itself.mean() > frame.confidence.mean()


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_asking_for_confidence_does_not_change_the_depth(weights, name):
    if name == "openvino":
        pytest.importorskip("openvino", reason="OpenVINO is not installed here")
    both = DepthEstimator(weights, EstimatorConfig(EngineConfig(name, "cpu")))
    alone = both.estimate(IMAGE).depth.copy()
    assert np.array_equal(both.estimate(IMAGE, with_confidence=True).depth, alone)
    assert not np.array_equal(both.estimate(np.ascontiguousarray(IMAGE[:, ::-1])).depth, alone), "the image has a side"


def test_rectification_makes_bent_lines_straight_and_marks_what_it_cannot_see():
    camera = (200, 150)
    k = np.array([[150.0, 0, 99.5], [0, 150, 74.5], [0, 0, 1]])
    d = np.array([-0.3, 0.08, 0, 0, 0])
    v, u = np.mgrid[:150, :200].astype(np.float64)
    ideal = cv2.undistortPoints(np.stack([u, v], -1).reshape(-1, 1, 2), k, d, P=k).reshape(150, 200, 2)
    # A vertical line at x = 40 of the rectified view, as the lens shows it.
    bent = (np.abs(ideal[..., 0] - 40) < 1.5).astype(np.uint8)[..., None].repeat(3, 2) * 255
    rectify = Rectifier(CameraCalibration(*camera, tuple(k.flatten()), tuple(d)))
    straight = rectify(bent)[..., 0].astype(float)
    rows = slice(15, 135)
    columns = (straight * np.arange(200)).sum(1)[rows] / straight.sum(1)[rows]
    assert np.abs(columns - 40).max() < 0.5
    raw = (bent[..., 0] * np.arange(200.0)).sum(1)[rows] / bent[..., 0].sum(1, dtype=float)[rows]
    assert np.ptp(raw) > 2
    assert rectify.unknown is None  # a barrel lens sees more than the rectified view shows
    assert Rectifier(CameraCalibration(*camera, tuple(k.flatten()), (0.3, 0.1, 0, 0, 0))).unknown.any()


def test_pixels_beyond_the_edge_of_the_lens_are_unknown(estimator):
    frame = estimator.estimate(IMAGE, BENT)
    unknown = Rectifier(BENT).unknown.astype(bool)
    assert 0 < unknown.mean() < 0.5
    assert np.isnan(frame.depth[unknown]).all()
    assert not frame.valid[unknown].any()
    assert np.isfinite(frame.depth[~unknown]).mean() > 0.9


def test_a_fisheye_is_rectified_by_its_own_model():
    k = (60, 0, 63.5, 0, 60, 47.5, 0, 0, 1)
    fisheye = Rectifier(CameraCalibration(128, 96, k, (0.05, 0.01, 0.0, 0.0), "equidistant"))
    plumb = Rectifier(CameraCalibration(128, 96, k, (0.05, 0.01, 0.0, 0.0), "plumb_bob"))
    assert not np.array_equal(fisheye(IMAGE), plumb(IMAGE))


@pytest.mark.parametrize(
    ("camera", "expected"),
    [((640, 480), (320, 256)), ((1242, 375), (512, 160)), ((752, 480), (352, 224)), ((480, 640), (256, 320))],
)
def test_the_network_follows_the_shape_of_the_camera(camera, expected):
    assert network_size(*camera, DepthNetConfig()) == expected


def test_weights_that_give_no_depth_are_refused_on_a_probe(tmp_path):
    net = DepthNet(DepthNetConfig(input_width=64, input_height=32)).eval()
    with torch.no_grad():
        net.encoder.stem[1].running_var.fill_(-1.0)  # finite, but its square root is not
    save_depth_net(net, tmp_path / "probe.safetensors", {})
    with pytest.raises(WeightsError, match="probe image"):
        DepthEstimator(tmp_path / "probe.safetensors", EstimatorConfig(TORCH))


def test_openvino_on_a_gpu_is_refused_in_words(weights, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    net, _ = load_depth_net(weights)
    with pytest.raises(SsmdeError, match="runs on the CPU only|not installed"):
        create_engine(net, (64, 96), EngineConfig("openvino", "cuda"))


@pytest.mark.parametrize(
    "values", [{"input_size": (100, 64)}, {"input_size": (64, 0)}, {"scale": 0.0}, {"min_depth": 90.0}]
)
def test_impossible_settings_are_refused(values):
    with pytest.raises(ValueError, match="input_size|scale|min_depth"):
        EstimatorConfig(**values)


def test_colors_are_fixed_to_depth_not_to_the_frame():
    depth = np.array([[1.0, 4.0], [np.nan, np.inf]], np.float32)
    picture = color_depth(depth, 0.5, 80)
    alone = color_depth(depth[:1, :1].copy(), 0.5, 80)
    assert np.array_equal(picture[0, 0], alone[0, 0])
    assert picture[1, 0].tolist() == [0, 0, 0]
    assert not np.array_equal(picture[0, 0], picture[0, 1])
    assert picture[0, 0, 2] > picture[0, 0, 0], "near is warm"
    with pytest.raises(ValueError, match="near"):
        color_depth(depth, 5, 1)


def test_the_network_sees_the_rectified_picture_and_so_does_who_asks(weights):
    estimator = DepthEstimator(weights, EstimatorConfig(TORCH))
    bent = estimator.estimate(IMAGE, BENT)
    depth, shown = bent.depth.copy(), bent.image.copy()
    assert np.array_equal(shown, Rectifier(BENT)(IMAGE))
    straight = estimator.estimate(IMAGE)
    assert straight.image is IMAGE
    unlike = off(depth, straight.depth)
    assert unlike > 1e-4, "it is another picture"
    assert off(depth, estimator.estimate(shown).depth) < 0.3 * unlike, "rectified beforehand it is the same"


def off(a, b):
    """Mean difference of the logarithm, where both are known."""
    known = np.isfinite(a) & np.isfinite(b)
    return np.abs(np.log(a[known] / b[known])).mean()


def test_the_limits_are_those_of_the_scaled_depth(weights):
    plain = DepthEstimator(weights, EstimatorConfig(TORCH, min_depth=0, max_depth=1e9)).estimate(IMAGE).depth.copy()
    for scale, limits in ((100.0, (0.1, float(50 * np.median(plain)))), (0.01, (float(np.median(plain)) / 100, 1e9))):
        config = EstimatorConfig(TORCH, scale=scale, min_depth=limits[0], max_depth=limits[1])
        depth = DepthEstimator(weights, config).estimate(IMAGE).depth
        outside = (scale * plain < limits[0]) | (scale * plain > limits[1])
        assert (np.isinf(depth) == outside).mean() > 0.999
        assert np.isinf(depth).any()
