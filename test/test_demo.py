"""The demo as a stranger runs it: player, depth node and recorder in processes of their own, over DDS."""

import json

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from ssmde_ros.cli import main
from ssmde_ros.data.bags import Bag
from ssmde_ros.data.sample import sample_bag, sample_frames, write_bag
from ssmde_ros.data.synthetic import SyntheticWorld, WorldConfig
from ssmde_ros.geometry import PinholeCamera
from test.data.test_bags import camera, write

pytestmark = pytest.mark.slow
pytest.importorskip(
    "rclpy", reason="rclpy is not installed: pip install -r requirements/ros.txt, or source a ROS install"
)


@pytest.fixture(scope="module")
def small_bag(tmp_path_factory):
    world = SyntheticWorld(WorldConfig("street", 21, PinholeCamera(160, 120, 130.0, 130.0, 79.5, 59.5)))
    path = tmp_path_factory.mktemp("demo") / "bag"
    write_bag(path, (world.render(i / 10) for i in range(20)), 20)
    return path


# The node keeps only the newest image: a machine that stands still for two frames costs one. That the node itself loses
# none is shown where frames wait for each other (test_a_swap_drops_no_frame_and_can_be_taken_back).
STALLS = 1


def lost(summary):
    return summary["frames_in"] - summary["frames_out"]


def run(out, *words):
    assert main(["demo", "-o", str(out), *map(str, words)]) == 0
    return json.loads((out / "summary.json").read_text())


def test_every_frame_comes_back_and_leaves_its_files(small_bag, tmp_path):
    summary = run(tmp_path, "--bag", small_bag)
    keys = {"frames_in", "frames_out", "fps", "latency_ms", "inference_ms", "engine", "device", "weights", "rmw"}
    assert keys <= set(summary)
    assert summary["frames_in"] == 20 and summary["frames_out"] == summary["frames_with_camera_info"]
    assert lost(summary) <= STALLS
    assert summary["frame_ids"] == ["camera_optical_frame"]
    assert summary["depth_size"] == [160, 120]
    assert 8 < summary["fps"] < 12
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p95"]
    assert 0 < summary["inference_ms"]["p50"]
    assert summary["rmw"] == "rmw_fastrtps_cpp"
    picture = cv2.imread(str(tmp_path / "depth.png"))
    assert picture.shape == (120, 480, 3)
    assert picture[:, 160:320].std() > 10, "the depth panel shows something"
    header = (tmp_path / "points.ply").read_bytes()[:200].decode("ascii", "ignore")
    assert f"element vertex {summary['points']}" in header


def test_a_video_plays_with_an_assumed_field_of_view(tmp_path):
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (160, 120))
    for _ in range(12):
        writer.write(np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8))
    writer.release()
    summary = run(tmp_path / "out", "--video", path, "--hfov", 70)
    assert summary["frames_in"] == 12 and lost(summary) <= STALLS
    assert "assumed field of view 70 degrees" in summary["source"]


def test_a_bag_without_camera_info_gives_depth_alone(tmp_path):
    topics = camera(6)
    del topics["/cam/camera_info"]
    summary = run(tmp_path / "out", "--bag", write(tmp_path / "bag", topics, StoragePlugin.SQLITE3))
    assert summary["frames_in"] == 6 and lost(summary) <= STALLS
    assert summary["frames_with_camera_info"] == 0
    assert not (tmp_path / "out" / "points.ply").exists()


def test_the_sample_is_drawn_once(tmp_path, monkeypatch):
    short = [frame for frame, _ in zip(sample_frames(), range(2), strict=False)]
    monkeypatch.setattr("ssmde_ros.data.sample.sample_frames", lambda: iter(short))
    path = sample_bag(tmp_path)
    monkeypatch.setattr("ssmde_ros.data.sample.sample_frames", lambda: pytest.fail("drawn twice"))
    assert sample_bag(tmp_path) == path
    with Bag(path) as bag:
        assert {t.name: t.kind for t in bag.topics} == {
            "/camera/image_raw": "image", "/camera/camera_info": "camera_info", "/camera/depth": "depth",
        }  # fmt: skip
        _, depth = next(bag.depths("/camera/depth"))
        assert np.array_equal(depth == 0, np.isinf(short[0].depth[0].numpy()))


def test_the_live_benchmark_prints_rates_and_latencies(capfd):
    words = ["bench", "--live", "--seconds", "3", "--size", "160x120", "--rate", "15", "--points", "--json"]
    words += ["--precision", "fp32"]
    assert main(words) == 0
    told = json.loads([line for line in capfd.readouterr().out.splitlines() if line.startswith("{")][-1])
    assert told["frames_in"] == 45
    assert told["depth_hz"] > 5
    assert told["points_hz"] > 5
    assert told["node"]["precision"] == "fp32"
    assert told["latency_ms"]["p50"] > 0
    assert 0.5 < told["start_to_first_depth_s"] < 60
    inference = float(told["node"]["inference_ms_p50"])
    assert told["latency_p50_over_inference"] == pytest.approx(told["latency_ms"]["p50"] / inference, rel=0.02)


def test_several_cameras_are_measured_at_once(capfd):
    words = ["bench", "--live", "--cameras", "2", "--seconds", "2", "--size", "160x120", "--rate", "10", "--json"]
    assert main(words) == 0
    told = json.loads([line for line in capfd.readouterr().out.splitlines() if line.startswith("{")][-1])
    assert [camera["frames_in"] for camera in told["cameras"]] == [20, 20]
    assert all(camera["frames_out"] > 10 for camera in told["cameras"])
    assert told["depth_hz"] == pytest.approx(sum(camera["depth_hz"] for camera in told["cameras"]), abs=0.02)
    assert len({json.dumps(camera["node"], sort_keys=True) for camera in told["cameras"]}) == 2, "each of its own node"
