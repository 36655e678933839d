"""What goes wrong on robots: each case in its own process over real DDS, and the node lives through all of it."""

import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from rosgraph_msgs.msg import Clock
from safetensors.torch import load_file, save_file
from sensor_msgs.msg import CompressedImage

from ssmde_ros.networks import DepthNet, DepthNetConfig, save_depth_net
from test.nodes.harness import IMAGE, PATIENCE, NodeProcess, camera_info, depth_of, picture

pytestmark = pytest.mark.slow
FAST = {"engine": "torch", "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def node(weights, ros):
    with NodeProcess("/rough", FAST | {"weights": weights, "camera_info_timeout": 0.5}) as process:
        yield process


def test_images_that_cannot_be_decoded_are_named_once_and_survived(node, peer):
    me = peer("/rough")
    me.settled(info=camera_info())
    broken = picture(IMAGE)
    broken.data = broken.data[:100]
    odd = picture(IMAGE, "rgb9")
    for bad, words in ((odd, "unknown image encoding 'rgb9'"), (broken, "truncated: 100 bytes of")):
        assert me.spin(lambda words=words: words in node.text, 12, lambda bad=bad: me.send(image=bad), every=0.05)
    assert node.text.count("unknown image encoding 'rgb9'") <= 3, "throttled"
    assert me.exchange(info=camera_info()) is not None
    _, values = me.status(doing=lambda: me.send(info=camera_info()))
    assert int(values["frames_undecodable"]) >= 2


def test_an_all_zero_calibration_gives_depth_without_camera_info_or_points(node, peer):
    me = peer("/rough", listen=("depth", "info", "points"))
    uncalibrated = camera_info(k=[0.0] * 9, p=[0.0] * 12)
    me.spin(lambda: False, 0.5)
    before = len(me.got["info"]), len(me.got["points"])
    for _ in range(3):
        assert depth_of(me.exchange(info=uncalibrated)).shape == (96, 128)
    me.spin(lambda: False, 0.5)
    assert (len(me.got["info"]), len(me.got["points"])) == before
    assert "camera_info is unusable: the camera is not calibrated: K has fx=0 fy=0" in node.text
    status, _ = me.status(lambda s: "not calibrated" in s.message, doing=lambda: me.send())
    assert status.level == b"\x01"
    me.settled(info=camera_info())
    assert me.spin(lambda: len(me.got["points"]) > before[1], 5, lambda: me.send(info=camera_info()))


def test_a_calibration_of_another_size_is_told_and_not_used(node, peer):
    me = peer("/rough")
    me.settled(info=camera_info(64, 48))
    assert "camera_info is for 64x48, the images are 128x96" in node.text
    count = len(me.got["info"])
    me.exchange(info=camera_info(64, 48))
    assert len(me.got["info"]) == count


def test_an_unknown_lens_is_told_and_not_used(node, peer):
    me = peer("/rough")
    me.settled(info=camera_info(distortion_model="magic", d=[0.1] * 5))
    assert "unknown distortion model 'magic'" in node.text


def test_distortion_is_undone_and_the_unknown_rim_is_nan(node, peer):
    me = peer("/rough")
    depth = depth_of(me.settled(info=camera_info(d=[0.4, 0.2, 0.0, 0.0, 0.0])))
    assert 0 < np.isnan(depth).mean() < 0.6
    assert me.set(rectify=False).successful
    assert not np.isnan(depth_of(me.settled(info=camera_info(d=[0.4, 0.2, 0.0, 0.0, 0.0])))).any()
    assert me.set(rectify=True).successful


def test_a_covered_lens_is_reported(node, peer):
    me = peer("/rough")
    black = np.zeros_like(IMAGE)
    me.exchange(image=black, info=camera_info())
    status, _ = me.status(
        lambda s: "the image is flat" in s.message, doing=lambda: me.send(image=black, info=camera_info())
    )
    assert status.level == b"\x01"


def bad_files(folder, good):
    """Weight files that must be refused, with the words that say why."""
    poisoned = load_file(good)
    poisoned["decoder.heads.0.bias"].fill_(float("nan"))
    from safetensors import safe_open

    with safe_open(good, framework="pt") as file:
        save_file(poisoned, folder / "nan.safetensors", file.metadata())
    (folder / "short.safetensors").write_bytes(good.read_bytes()[:5000])
    (folder / "text.safetensors").write_text("not weights")
    return {"nan": "NaN or infinity", "short": "cannot be read", "text": "cannot be read", "missing": "does not exist"}


def test_bad_weights_are_refused_and_the_old_ones_run_on(node, peer, weights, tmp_path):
    me = peer("/rough")
    before = depth_of(me.settled(info=camera_info())).copy()
    result = me.set(weights="~nobody_lives_here/net.safetensors")
    assert not result.successful
    for name, words in bad_files(tmp_path, weights).items():
        result = me.set(weights=str(tmp_path / f"{name}.safetensors"))
        assert not result.successful
        assert words in result.reason
    assert np.array_equal(before, depth_of(me.settled(info=camera_info())))


def test_good_weights_take_over_while_depth_flows(node, peer, weights, tmp_path):
    me = peer("/rough")
    before = depth_of(me.settled(info=camera_info())).copy()
    torch.manual_seed(8)
    other = tmp_path / "other.safetensors"
    save_depth_net(DepthNet(DepthNetConfig(input_width=96, input_height=64)), other, {})
    assert me.set(weights=str(other)).successful

    def swapped():
        return any("other.safetensors" in p.value for s in me.diagnostics for p in s.values if p.key == "weights")

    me.diagnostics.clear()
    assert me.spin(swapped, doing=lambda: me.send(info=camera_info()))
    assert not np.array_equal(before, depth_of(me.settled(info=camera_info())))
    assert me.set(weights=str(weights)).successful


def test_late_camera_info_is_waited_for(weights, peer, ros):
    with NodeProcess("/late", FAST | {"weights": weights, "camera_info_timeout": 20.0}) as node:
        me = peer("/late")
        assert me.spin(lambda: "loaded random" in node.text)
        assert me.spin(lambda: me.image.get_subscription_count() and me.count_publishers("/late/depth/image_rect"))
        me.spin(lambda: False, 1.0)
        stamp = me.send()
        assert not me.spin(lambda: me.got["depth"], 1.5), "the first frame waits"
        info = camera_info()
        me.info.publish(info)
        assert me.spin(lambda: me.got["depth"] and me.got["info"], 5)
        assert me.got["depth"][0].header.stamp.sec == stamp == me.got["info"][0].header.stamp.sec


def test_without_camera_info_depth_flows_after_the_timeout(weights, peer, ros):
    with NodeProcess("/none", FAST | {"weights": weights, "camera_info_timeout": 0.3}) as node:
        me = peer("/none")
        me.settled()
        assert not me.got["info"]
        assert "no camera_info received: depth is published without camera_info and points" in node.text


def test_missing_weights_leave_a_node_that_says_so_and_can_be_helped(weights, peer, ros, tmp_path):
    with NodeProcess("/blind", FAST | {"weights": tmp_path / "none.safetensors"}) as node:
        me = peer("/blind")
        status, _ = me.status(
            lambda s: "no depth: weights file" in s.message, doing=lambda: me.send(info=camera_info())
        )
        assert status.level == b"\x02"
        assert node.text.count("does not exist; set `weights`") == 1
        assert not me.trigger("load_weights").success
        assert me.set(weights=str(weights)).successful
        assert me.exchange(info=camera_info()) is not None


def test_compressed_images_two_namespaces_and_unknown_parameters(weights, peer, ros):
    compressed = FAST | {"weights": weights, "image_transport": "compressed", "tpyo": 1, "min_depth": -1.0}
    with NodeProcess("/left", FAST | {"weights": weights}), NodeProcess("/right", compressed) as right:
        left, me = peer("/left"), peer("/right", compressed=True)
        _, code = cv2.imencode(".png", cv2.cvtColor(IMAGE, cv2.COLOR_RGB2BGR))
        message = CompressedImage(format="bgr8; png compressed bgr8", data=code.tobytes())
        there = depth_of(me.settled(image=message, info=camera_info())).copy()
        here = depth_of(left.settled(info=camera_info()))
        assert np.array_equal(here, there), "the same picture, the same depth"
        assert "unknown parameter tpyo is ignored" in right.text
        assert "parameter min_depth is refused" in right.text
        assert me.get("min_depth") == pytest.approx(0.1)
        broken = CompressedImage(format="jpeg", data=b"no picture")
        assert me.spin(lambda: "cannot be decoded" in right.text, 10, lambda: me.send(image=broken))
        assert me.exchange(image=message, info=camera_info()) is not None


def test_one_bad_parameter_costs_no_other(weights, peer, ros):
    given = {
        "weights": weights,
        "device": "cpu",
        "threads": 1,
        "engine": "opnvino",
        "depth_encoding": "16UC1",
        "scale": 3.0,
    }
    with NodeProcess("/typo", given | {"color.near": 90.0, "max_depth": 40.0}) as node:
        me = peer("/typo")
        message = me.exchange(info=camera_info())
        assert message.encoding == "16UC1"
        assert (
            "parameter engine is refused (engine must be one of auto, openvino, onnxruntime, torch, tensorrt"
            in node.text
        )
        assert "parameter color.near is refused (color.near must be below color.far)" in node.text
        told = [me.get(name) for name in ("engine", "threads", "scale", "max_depth", "color.near", "color.far")]
        assert told == ["auto", 1, 3.0, 40.0, 0.5, 80.0], "the parameter services tell what runs"


def test_remapped_images_bring_their_camera_info_along(weights, peer, ros):
    remap = ["-r", "image:=/front/image_raw"]
    with NodeProcess("/remapped", FAST | {"weights": weights}, extra=remap) as node:
        me = peer("/remapped")
        assert me.spin(lambda: "images from" in node.text)
        assert "images from /front/image_raw, camera_info from /front/camera_info" in node.text
        assert me.spin(lambda: me.count_subscribers("/front/image_raw") and me.count_subscribers("/front/camera_info"))


def test_sim_time_stamps_diagnostics_and_never_stops_depth(weights, peer, ros):
    with NodeProcess("/sim", FAST | {"weights": weights, "use_sim_time": "true"}):
        me = peer("/sim")
        assert me.exchange(info=camera_info()) is not None, "depth does not wait for /clock"
        clock = me.create_publisher(Clock, "/clock", 1)
        now = Clock()
        now.clock.sec = 4321
        seen = []
        from diagnostic_msgs.msg import DiagnosticArray

        me.create_subscription(DiagnosticArray, "/diagnostics", lambda m: seen.append(m.header.stamp.sec), 10)
        assert me.spin(lambda: 4321 in seen, doing=lambda: clock.publish(now))


def test_a_slow_node_drops_frames_and_never_queues_them(weights, peer, ros):
    slow = FAST | {"weights": weights, "input_width": 640, "input_height": 480}
    with NodeProcess("/slow", slow):
        me = peer("/slow")
        me.settled(info=camera_info())
        me.trigger("reset")
        me.got["depth"].clear()
        end = time.monotonic() + 3
        me.spin(lambda: time.monotonic() > end, doing=lambda: me.send(info=camera_info()), every=0.01)
        last = me.stamp
        me.spin(lambda: False, 1.0)
        stamps = [d.header.stamp.sec for d in me.got["depth"]]
        assert stamps == sorted(stamps)
        assert stamps[-1] >= last - 2, "the newest frame wins"
        _, values = me.status()
        assert int(values["frames_dropped"]) > 0


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT, signal.SIGINT]])
def test_signals_end_the_node_cleanly(weights, peer, ros, signals):
    with NodeProcess("/stop", FAST | {"weights": weights}) as node:
        me = peer("/stop")
        me.exchange(info=camera_info())
        for number in signals:
            node.signal(number)
            time.sleep(0.15)
        assert node.stop() == 0
        assert "Traceback" not in node.text


def test_impatient_interrupts_during_start_up_leave_no_traceback(weights, ros, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where no engine is kept: it has to compile
    # Many, for they must also interrupt each other's handlers.
    with NodeProcess("/early", FAST | {"weights": weights}) as node:
        deadline = time.monotonic() + 30
        while "images from" not in node.text and time.monotonic() < deadline:
            time.sleep(0.02)
        for _ in range(50):
            node.signal(signal.SIGINT)
        assert node.stop() == 0
        assert "Traceback" not in node.text
        assert os.environ["ROS_DOMAIN_ID"]


def test_a_signal_may_interrupt_the_handler_of_the_one_before():
    # A second signal at every call that the first one's handler makes: rarely seen otherwise, and a dead-lock once.
    script = """if True:
        import signal, sys
        from ssmde_ros.nodes.spin import run

        def create():
            hear = signal.getsignal(signal.SIGINT)
            sys.setprofile(lambda *_: hear(signal.SIGINT, None))
            hear(signal.SIGINT, None)
            sys.setprofile(None)
            raise RuntimeError("cut off while starting")

        sys.exit(run(create))
    """
    ended = subprocess.run([sys.executable, "-c", script], timeout=PATIENCE, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
