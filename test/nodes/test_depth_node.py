"""One depth node in its own process, and everything it promises while all is well. Real DDS, no mocks."""

import cv2
import numpy as np
import pytest

from test.nodes.harness import BEST_EFFORT, IMAGE, NodeProcess, camera_info, depth_of

pytestmark = pytest.mark.slow
FAST = {"engine": "torch", "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def node(weights, ros):
    with NodeProcess("/robot", FAST | {"weights": weights}, env={"ROS_PYTHON_CHECK_FIELDS": "1"}) as process:
        yield process


def test_depth_comes_back_with_stamp_frame_and_camera_info(node, peer):
    me = peer("/robot")
    sent = camera_info()
    message = me.settled(info=sent)
    assert message.header.stamp.sec == me.stamp
    assert message.header.frame_id == "camera_optical_frame"
    assert (message.width, message.height, message.encoding, message.step) == (128, 96, "32FC1", 512)
    depth = depth_of(message)
    assert np.isfinite(depth).mean() > 0.5
    assert me.spin(lambda: any(i.header.stamp.sec == me.stamp for i in me.got["info"]), 5)
    info = me.got["info"][-1]
    assert (info.width, info.height) == (message.width, message.height)
    assert np.allclose(info.k, sent.k)
    assert np.allclose(info.p, sent.p)
    assert info.header.frame_id == message.header.frame_id


def test_every_output_has_its_type_and_size(node, peer):
    me = peer("/robot", listen=("depth", "info", "points", "color", "confidence"))
    assert me.set(confidence=True).successful
    me.settled(info=camera_info())
    assert me.spin(lambda: all(me.got.values()), doing=lambda: me.send(info=camera_info()), every=0.5)
    cloud, color, confidence = (me.got[name][-1] for name in ("points", "color", "confidence"))
    assert (cloud.width, cloud.height, cloud.point_step, cloud.row_step) == (128, 96, 16, 2048)
    assert [(f.name, f.offset) for f in cloud.fields] == [("x", 0), ("y", 4), ("z", 8), ("rgb", 12)]
    assert not cloud.is_dense
    assert len(cloud.data) == 128 * 96 * 16
    assert (color.encoding, color.width, color.height) == ("bgr8", 128, 96)
    assert confidence.encoding == "32FC1"
    sure = np.frombuffer(confidence.data, np.float32)
    assert 0 <= sure.min() <= sure.max() <= 1
    assert me.set(confidence=False).successful


def test_points_lie_on_the_rays_of_the_depth_image(node, peer):
    me = peer("/robot", listen=("depth", "points"))
    me.settled(info=camera_info())
    stamp = me.stamp
    assert me.spin(lambda: any(c.header.stamp.sec == stamp for c in me.got["points"]), 5)
    cloud = next(c for c in me.got["points"] if c.header.stamp.sec == stamp)
    depth = depth_of(next(d for d in me.got["depth"] if d.header.stamp.sec == stamp))
    xyz = np.frombuffer(cloud.data, np.float32).reshape(96, 128, 4)[..., :3]
    good = np.isfinite(depth)
    v, u = np.nonzero(good)
    np.testing.assert_allclose(xyz[good][:, 2], depth[good])
    np.testing.assert_allclose(xyz[good][:, 0], (u - 64) / 100 * depth[good], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(xyz[good][:, 1], (v - 48) / 100 * depth[good], rtol=1e-4, atol=1e-5)
    assert np.isnan(xyz[~good]).all()


def test_a_best_effort_listener_hears_depth_too(node, peer):
    me = peer("/robot", qos=BEST_EFFORT)
    assert depth_of(me.exchange(info=camera_info())).shape == (96, 128)


@pytest.mark.parametrize(
    ("encoding", "values"),
    [
        ("bgr8", IMAGE[..., ::-1]),
        ("mono8", IMAGE[..., 0]),
        ("mono16", IMAGE[..., 0].astype(np.uint16) * 257),
        ("bayer_rggb8", IMAGE[..., 0]),
        ("rgba8", np.dstack([IMAGE, IMAGE[..., 0]])),
        ("yuv422_yuy2", IMAGE[..., :2]),
    ],
)
def test_other_encodings_flow_through_the_node(node, peer, encoding, values):
    message = peer("/robot").settled(image=values, encoding=encoding, info=camera_info())
    assert np.isfinite(depth_of(message)).any()


def test_rgb_and_bgr_of_one_picture_give_one_depth(node, peer):
    me = peer("/robot")
    first = depth_of(me.settled(info=camera_info())).copy()
    assert np.array_equal(first, depth_of(me.settled(image=IMAGE[..., ::-1], encoding="bgr8", info=camera_info())))
    assert not np.array_equal(first, depth_of(me.settled(image=255 - IMAGE, info=camera_info())))


def test_the_image_may_change_its_size_mid_stream(node, peer):
    me = peer("/robot")
    for width, height in ((128, 96), (200, 90), (65, 101), (128, 96)):
        image = cv2.resize(IMAGE, (width, height))
        message = me.settled(image=image, info=camera_info(width, height))
        assert (message.width, message.height) == (width, height)
        assert me.spin(lambda: any(i.header.stamp.sec == me.stamp for i in me.got["info"]), 5)
        assert (me.got["info"][-1].width, me.got["info"][-1].height) == (width, height)


def test_binning_and_regions_reach_the_published_camera_info(node, peer):
    me = peer("/robot")
    full = camera_info(256, 192, 200.0, binning_x=2, binning_y=2)
    me.settled(info=full)
    assert me.spin(lambda: any(i.header.stamp.sec == me.stamp for i in me.got["info"]), 5)
    assert np.allclose(me.got["info"][-1].k, [100, 0, 64, 0, 100, 48, 0, 0, 1])


def test_a_changed_parameter_changes_the_depth(node, peer):
    me = peer("/robot")
    before = depth_of(me.settled(info=camera_info())).copy()
    assert me.set(scale=2.0).successful
    after = depth_of(me.settled(info=camera_info()))
    good = np.isfinite(before) & np.isfinite(after)
    np.testing.assert_allclose(after[good], 2 * before[good], rtol=1e-5)
    limit = float(np.median(after[good]))
    assert me.set(max_depth=limit).successful
    near = depth_of(me.settled(info=camera_info()))
    assert np.isposinf(near[after > limit]).all()
    assert me.set(max_depth=80.0, scale=1.0).successful


def test_depth_in_millimetres(node, peer):
    me = peer("/robot")
    metres = depth_of(me.settled(info=camera_info())).copy()
    assert me.set(depth_encoding="16UC1").successful
    message = me.settled(info=camera_info())
    assert (message.encoding, message.step) == ("16UC1", 256)
    known = np.isfinite(metres) & (metres < 65.5)
    assert np.abs(depth_of(message)[known] - 1000 * metres[known]).max() <= 1
    assert (depth_of(message)[~np.isfinite(metres)] == 0).all()
    assert me.set(depth_encoding="32FC1").successful


def test_network_size_scales_depth_camera_info_and_points_together(node, peer):
    me = peer("/robot", listen=("depth", "info", "points"))
    assert me.set(depth_size="network").successful
    message = me.settled(info=camera_info())
    assert (message.width, message.height) != (128, 96)
    assert me.spin(lambda: any(i.header.stamp.sec == me.stamp for i in me.got["info"]), 5)
    info, cloud = me.got["info"][-1], me.got["points"][-1]
    assert (info.width, info.height) == (message.width, message.height) == (cloud.width, cloud.height)
    assert info.k[0] / 100 == pytest.approx(message.width / 128)
    assert info.k[4] / 100 == pytest.approx(message.height / 96)
    assert me.set(depth_size="camera").successful


def test_cloud_parameters_take_effect(node, peer):
    me = peer("/robot", listen=("depth", "points"))
    assert me.set(cloud__decimation=4, cloud__color=False, cloud__organised=False).successful
    me.settled(info=camera_info())
    assert me.spin(lambda: bool(me.got["points"]) and me.got["points"][-1].point_step == 12, 5)
    cloud = me.got["points"][-1]
    assert cloud.is_dense
    assert cloud.height == 1
    assert 0 < cloud.width <= 32 * 24
    assert np.isfinite(np.frombuffer(cloud.data, np.float32)).all()
    assert me.set(cloud__decimation=1, cloud__color=True, cloud__organised=True).successful


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("max_depth", 0.05, "min_depth must be below max_depth"),
        ("max_depth", -3.0, "range"),
        ("depth_encoding", "64FC1", "must be one of 32FC1, 16UC1"),
        ("cloud__decimation", 0, "range"),
        ("weights", "/nowhere/net.safetensors", "does not exist"),
        ("engine", "openvino", "read-only"),
        ("scale", "two", "type"),
    ],
)
def test_a_bad_parameter_is_refused_with_the_reason_and_changes_nothing(node, peer, name, value, reason):
    me = peer("/robot")
    before = me.get(name.replace("__", "."))
    result = me.set(**{name: value})
    assert not result.successful
    assert reason in result.reason.lower() or reason in result.reason
    assert me.get(name.replace("__", ".")) == before
    assert me.exchange(info=camera_info()) is not None


def test_parameters_describe_themselves(node, peer):
    scale, weights, threads = peer("/robot").describe("scale", "weights", "threads")
    assert "Metres per network unit" in scale.description
    assert scale.floating_point_range[0].to_value == 1e6
    assert not weights.read_only
    assert threads.read_only


def test_diagnostics_tell_rate_latency_engine_and_weights(node, peer):
    me = peer("/robot")
    me.settled(info=camera_info())

    def flowing(status):
        values = {value.key: value.value for value in status.values}
        # The first frame may have gone out seconds before the second: the rate is that of the last five seconds.
        return status.level == b"\x00" and status.message == "depth is flowing" and float(values["rate_out_hz"]) > 1

    status, values = me.status(flowing, doing=lambda: me.send(info=camera_info()))
    assert 0 < float(values["latency_ms_p50"]) <= float(values["latency_ms_p95"])
    assert (values["engine"], values["device"], values["precision"]) == ("torch", "cpu", "fp32")
    assert values["weights"].startswith("random.safetensors (")
    assert int(values["frames_out"]) > 0
    assert status.hardware_id == "cpu"


def test_reset_clears_the_statistics(node, peer):
    me = peer("/robot")
    me.exchange(info=camera_info())
    # Its depth is here before the node has counted it.
    me.status(lambda s: {value.key: value.value for value in s.values}["frames_out"] != "0")
    assert me.trigger("reset").success
    _, values = me.status()
    assert values["frames_in"] == values["frames_out"] == "0"


def test_load_weights_answers_with_old_and_new_identity(node, peer):
    me = peer("/robot")
    me.settled(info=camera_info())
    answer = me.trigger("load_weights")
    assert answer.success
    assert answer.message.count("random.safetensors (") == 2
    assert me.settled(info=camera_info()) is not None


def test_silence_is_a_warning_while_somebody_listens(node, peer):
    me = peer("/robot")
    me.exchange(info=camera_info())
    status, _ = me.status(lambda s: "no image for" in s.message)
    assert status.level == b"\x01"


def test_nothing_is_computed_with_nobody_listening(node, peer):
    me = peer("/robot", listen=())
    me.spin(lambda: False, timeout=1.5)
    me.trigger("reset")
    me.spin(lambda: False, timeout=2.0, doing=lambda: me.send(info=camera_info()))
    _, values = me.status(
        lambda s: any(p.key == "frames_in" and int(p.value) > 5 for p in s.values), doing=lambda: me.send()
    )
    assert values["frames_out"] == "0"
    assert values["listened_to"] == "False"
