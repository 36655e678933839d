import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import yaml

from ssmde_ros.nodes.cameras import CameraTracker
from ssmde_ros.nodes.health import Health
from ssmde_ros.nodes.newest import Newest
from ssmde_ros.nodes.parameters import SPECS, DepthNodeConfig, descriptor
from ssmde_ros.nodes.throttle import Throttle
from test.conftest import ROOT
from test.nodes.harness import camera_info

DEFAULTS = {name: spec.default for name, spec in SPECS.items()}


def flattened(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def test_the_yaml_file_names_every_parameter_with_its_default():
    content = yaml.safe_load((ROOT / "config" / "depth.yaml").read_text())
    assert list(content) == ["/**"], "only /** matches the node in any namespace"
    assert dict(flattened(content["/**"]["ros__parameters"])) == DEFAULTS


def test_the_yaml_file_says_which_parameters_change_at_run_time():
    lines = (ROOT / "config" / "depth.yaml").read_text().splitlines()
    for name, spec in SPECS.items():
        line = next(x for x in lines if x.strip().startswith(name.split(".")[-1] + ":") and "#" in x)
        assert ("[DYNAMIC]" in line) == spec.dynamic, name


def test_the_readme_names_every_parameter():
    readme = (ROOT / "README.md").read_text()
    assert [name for name in SPECS if f"`{name}`" not in readme] == []


def test_the_defaults_make_a_configuration():
    config = DepthNodeConfig.from_values(DEFAULTS)
    assert config.weights is None
    assert config["scale"] == 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [("engine", "magic"), ("input_width", 100), ("max_depth", 0.01), ("color.near", 99.0), ("device", "tpu")],
)
def test_contradicting_values_are_refused(name, value):
    with pytest.raises(ValueError, match=r"engine|input_size|min_depth|color|device"):
        DepthNodeConfig.from_values(DEFAULTS | {name: value})


def test_every_parameter_is_described_and_ranged():
    for name, spec in SPECS.items():
        made = descriptor(spec)
        assert made.description.endswith("."), name
        assert made.read_only != spec.dynamic
        if isinstance(spec.default, (int, float)) and not isinstance(spec.default, bool):
            assert made.floating_point_range or made.integer_range, name


def test_only_the_newest_item_is_kept():
    box = Newest()
    assert box.take(0.0) is None
    for item in range(5):
        box.put(item)
    assert box.take(0.0) == 4
    assert box.take(0.0) is None
    assert box.dropped == 4


def test_a_waiting_taker_is_woken():
    box = Newest()
    threading.Timer(0.05, box.put, ["late"]).start()
    start = time.monotonic()
    assert box.take(5.0) == "late"
    assert time.monotonic() - start < 2


def test_the_tracker_waits_once_per_size_and_again_after_a_change():
    tracker = CameraTracker()
    assert tracker.wait_for((128, 96), 0.05) is None
    start = time.monotonic()
    assert tracker.wait_for((128, 96), 5.0) is None
    assert time.monotonic() - start < 1, "given up"
    assert "no camera_info received" in tracker.problem
    tracker.update(camera_info())
    assert tracker.wait_for((128, 96), 0.0).k[0] == 100
    assert tracker.problem == ""
    assert tracker.wait_for((64, 48), 0.01) is None
    assert "128x96, the images are 64x48" in tracker.problem


def test_sizes_that_alternate_are_each_waited_for_once():
    tracker = CameraTracker()
    for size in ((128, 96), (64, 48)):
        tracker.wait_for(size, 0.01)
    start = time.monotonic()
    for focal in (90.0, 91.0, 92.0):  # a zooming camera of another size
        tracker.update(camera_info(320, 240, focal))
        for size in ((128, 96), (64, 48)):
            assert tracker.wait_for(size, 5.0) is None
    assert time.monotonic() - start < 1


@pytest.mark.parametrize(("topic", "bent"), [("/cam/image_raw", True), ("/cam/image_rect_color/compressed", False)])
def test_rectified_images_are_not_rectified_again(topic, bent):
    tracker = CameraTracker(topic)
    tracker.update(camera_info(d=[0.2, 0.1, 0.0, 0.0, 0.0], p=[90.0, 0, 60, 0, 0, 91, 50, 0, 0, 0, 1, 0]))
    calibration = tracker.wait_for((128, 96), 0.0)
    assert calibration.needs_rectification == bent
    assert calibration.rectified().fx == 90.0


def test_closing_ends_the_waiting():
    tracker = CameraTracker()
    threading.Timer(0.05, tracker.close).start()
    start = time.monotonic()
    assert tracker.wait_for((128, 96), 10.0) is None
    assert time.monotonic() - start < 3


def test_an_unusable_calibration_is_not_waited_for():
    tracker = CameraTracker()
    tracker.update(camera_info(k=[0.0] * 9, p=[0.0] * 12))
    start = time.monotonic()
    assert tracker.wait_for((128, 96), 5.0) is None
    assert time.monotonic() - start < 1
    assert "not calibrated" in tracker.problem


def test_the_same_problem_is_said_once_and_another_one_at_once():
    said, throttle = [], Throttle(60.0)
    for text in ("3 bytes of 9", "4 bytes of 9", "no camera", "3 bytes of 9"):
        throttle(said.append, text)
    assert said == ["3 bytes of 9", "no camera"]
    quick = Throttle(0.0)
    quick(said.append, "x")
    quick(said.append, "x")
    assert said[2:] == ["x", "x"]


def test_health_reports_percentiles_and_levels():
    health = Health()
    for number in range(100):
        health.arrived()
        health.published(
            float(number), {"inference": 1.0}, np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        )
    status = health.status({"engine": "torch"}, 3, [], [], expecting=True)
    values = {pair.key: pair.value for pair in status.values}
    assert status.level == b"\x00"
    assert (values["latency_ms_p50"], values["frames_dropped"], values["engine"]) == ("49.50", "3", "torch")
    assert health.status({}, 0, ["odd"], [], True).level == b"\x01"
    assert health.status({}, 0, ["odd"], ["dead"], True).level == b"\x02"
    health.reset()
    assert health.status({}, 0, [], [], True).message == "no image received yet"
    assert health.status({}, 0, [], [], False).level == b"\x00"


def test_images_that_give_no_depth_are_a_problem_until_one_does():
    health, image = Health(), np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for _ in range(2):
        health.failed("torn")
    assert health.status({}, 0, [], [], expecting=False).level == b"\x00", "one torn frame is none"
    health.failed("unknown image encoding 'rgb9'")
    status = health.status({}, 0, [], [], expecting=False)
    assert status.level == b"\x01"
    assert status.message == "no depth of the last 3 images: unknown image encoding 'rgb9'"
    health.published(1.0, {}, image)
    status = health.status({}, 0, [], [], expecting=False)
    assert (status.level, status.message) == (b"\x00", "depth is flowing")
    assert {pair.key: pair.value for pair in status.values}["frames_undecodable"] == "3"


def test_the_depth_node_starts_without_torch():
    """Which takes longer to import than the node to give its first depth."""
    code = "import sys, ssmde_ros.nodes.depth_node; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
