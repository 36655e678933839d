import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from ssmde_ros.geometry import PinholeCamera
from ssmde_ros.nodes.codec import RosbagsCodec, choose_codec, disagreement
from ssmde_ros.nodes.messages import camera_info_message, cloud_message, depth_message, image_message, to_bytes
from test.data.test_images import message as image_fixture
from test.data.test_images import smooth

HAS_CV_BRIDGE = importlib.util.find_spec("cv_bridge") is not None
HAS_SENSOR_MSGS_PY = importlib.util.find_spec("sensor_msgs_py") is not None


def header():
    made = Header(frame_id="cam")
    made.stamp.sec = 12
    return made


def test_bytes_are_those_of_the_array():
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)[:, ::2]
    assert to_bytes(values).tobytes() == np.ascontiguousarray(values).tobytes()


def test_images_carry_their_layout():
    made = image_message(header(), smooth(5, 7), "bgr8")
    assert (made.height, made.width, made.step, made.encoding, made.is_bigendian) == (5, 7, 21, "bgr8", 0)
    assert made.header.stamp.sec == 12


def test_metres_keep_their_infinities_and_millimetres_have_none():
    depth = np.array([[1.2345, np.inf, -np.inf, np.nan, 70.0, 65.5]], np.float32)
    assert np.array_equal(
        np.frombuffer(depth_message(header(), depth, "32FC1").data, np.float32), depth[0], equal_nan=True
    )
    millimetres = np.frombuffer(depth_message(header(), depth, "16UC1").data, np.uint16)
    assert millimetres.tolist() == [1235, 0, 0, 0, 0, 65500]


def test_camera_info_is_that_of_a_rectified_image():
    info = camera_info_message(header(), PinholeCamera(20, 10, 5, 6, 7, 8))
    assert info.k.tolist() == [5, 0, 7, 0, 6, 8, 0, 0, 1]
    assert info.p.tolist() == [5, 0, 7, 0, 0, 6, 8, 0, 0, 0, 1, 0]
    assert (info.width, info.height, list(info.d)) == (20, 10, [0] * 5)


@pytest.mark.parametrize("channels", [3, 4])
def test_organised_and_sparse_clouds(channels):
    points = np.arange(6 * channels, dtype=np.float32).reshape(2, 3, channels)
    organised, sparse = cloud_message(header(), points), cloud_message(header(), points.reshape(-1, channels))
    assert (organised.height, organised.width, organised.row_step, organised.is_dense) == (2, 3, 12 * channels, False)
    assert (sparse.height, sparse.width, sparse.is_dense) == (1, 6, True)
    assert organised.data == sparse.data == to_bytes(points)


@pytest.mark.skipif(not HAS_SENSOR_MSGS_PY, reason="sensor_msgs_py is not installed (it is not on PyPI)")
def test_sensor_msgs_py_builds_the_same_cloud(monkeypatch):
    points = np.random.default_rng(0).random((4, 5, 4)).astype(np.float32)
    theirs = cloud_message(header(), points)
    monkeypatch.setattr("ssmde_ros.nodes.messages._HAS_SENSOR_MSGS_PY", False)
    assert theirs == cloud_message(header(), points)


def test_the_codec_is_chosen_once_and_named():
    codec, passed_over = choose_codec()
    assert choose_codec()[0] is codec
    if not HAS_CV_BRIDGE:
        assert (codec.name, passed_over) == ("rosbags-image", None)


@pytest.mark.skipif(not HAS_CV_BRIDGE, reason="cv_bridge for ROS 2 is not installed (it is not on PyPI)")
@pytest.mark.parametrize(
    "encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", "yuv422_yuy2", "bayer_rggb8"]
)
@pytest.mark.parametrize(("pad", "big"), [(0, False), (6, False), (6, True)])
def test_cv_bridge_and_our_decoding_give_identical_arrays(encoding, pad, big):
    from ssmde_ros.nodes.codec import CvBridgeCodec

    channels = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "yuv422_yuy2": 2}.get(encoding, 1)
    kind = np.uint16 if encoding == "mono16" else np.uint8
    values = np.random.default_rng(0).integers(0, 256, (6, 8, channels)).astype(kind)
    plain = image_fixture(values[..., 0] if channels == 1 else values, encoding, pad, big)
    message = Image(**{k: v for k, v in vars(plain).items() if k != "data"}, data=plain.data)
    assert np.array_equal(CvBridgeCodec().image(message), RosbagsCodec().image(message))


class WrongCodec(RosbagsCodec):
    """Decodes like a port that forgets the byte order."""

    name = "wrong"

    def image(self, message):
        return super().image(SimpleNamespace(**(vars(message) | {"is_bigendian": 0})))


def test_a_codec_that_decodes_wrongly_is_found_out():
    assert disagreement(RosbagsCodec(), RosbagsCodec()) is None
    assert disagreement(WrongCodec(), RosbagsCodec()) == "mono16 big-endian"
