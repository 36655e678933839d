"""The command line on small inputs: exit codes, one line on stderr, files whole and right."""

import json

import cv2
import numpy as np
import pytest

from ssmde_ros.cli import main
from ssmde_ros.commands.bench import gigaflops, matmul_peak, spread
from ssmde_ros.commands.pictures import render_cloud, write_ply
from ssmde_ros.networks import DepthNet
from test.data.test_bags import camera, image, write


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("b", "a"):
        cv2.imwrite(str(folder / f"{name}.png"), np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
    return folder


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as done:
        main(["--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("demo", "depth", "bag", "eval", "bench"))


@pytest.mark.parametrize(
    "command", ["demo", "depth", "bag", "eval", "train", "generations", "import", "export", "bench"]
)
def test_help_of_a_command_is_prose(command, capsys):
    """A lone per cent sign in a help text makes argparse print its own variables."""
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    assert "option_strings" not in capsys.readouterr().out


@pytest.mark.parametrize("form", ["png", "npz"])
def test_depth_of_a_folder(pictures, tmp_path, weights, form, capsys):
    out = tmp_path / "out"
    words = [
        "depth",
        str(pictures),
        "-o",
        str(out),
        "--format",
        form,
        "--ply",
        "--weights",
        str(weights),
        "--engine",
        "torch",
    ]
    assert main(words) == 0
    assert {p.name for p in out.iterdir()} == {f"{n}{e}" for n in "ab" for e in (f".{form}", ".ply", "_color.jpg")}
    assert "2 depth images" in capsys.readouterr().out
    if form == "png":
        depth = cv2.imread(str(out / "a.png"), cv2.IMREAD_UNCHANGED)
        assert depth.dtype == np.uint16
    else:
        depth = np.load(out / "a.npz")["depth"]
        assert depth.dtype == np.float32
    assert depth.shape == (48, 64)
    assert (out / "a.ply").read_bytes().startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex")


def test_depth_of_a_bag_is_named_by_stamp(tmp_path, weights):
    bag = write(tmp_path / "bag", camera(2))
    out = tmp_path / "out"
    assert (
        main(["depth", str(bag), "-o", str(out), "--format", "npz", "--weights", str(weights), "--engine", "torch"])
        == 0
    )
    with np.load(out / "1100000000.npz") as file:
        assert file["K"][0, 0] == 50


def test_depth_of_a_video_is_numbered(tmp_path, weights):
    writer = cv2.VideoWriter(str(tmp_path / "clip.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 25, (64, 48))
    for value in (0, 120, 240):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    out = tmp_path / "out"
    assert (
        main(["depth", str(tmp_path / "clip.mp4"), "-o", str(out), "--weights", str(weights), "--engine", "torch"]) == 0
    )
    assert sorted(p.name for p in out.glob("*.png")) == ["000000.png", "000001.png", "000002.png"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["depth", "/nowhere.png", "-o", "out"], "input /nowhere.png does not exist"),
        (["depth", ".", "-o", "out", "--weights", "/no.safetensors"], "weights file /no.safetensors does not exist"),
        (["depth", ".", "-o", "out", "--scale", "-1"], "scale must be positive"),
        (["bag", "info", "/nowhere"], "bag /nowhere does not exist"),
        (["eval", "--bag", "/nowhere"], "bag /nowhere does not exist"),
        (["demo", "--bag", "/nowhere"], "bag /nowhere does not exist"),
        (["bench", "--rounds", "1"], "--rounds must be at least 3"),
        (["bench", "--live", "--size", "large"], "--size must look like 640x480"),
        (["bench", "--cameras", "2"], "--cameras must be at least 1, and more than one are for --live"),
        (["bench", "--precision", "fp32"], "--precision is for --live"),
        (["demo", "--hfov", "0"], "--hfov must lie between"),
        (["demo", "--rate", "0"], "--rate must lie between"),
        (["demo", "--weights", "/no.safetensors"], "weights file /no.safetensors does not exist"),
        (["depth", ".", "-o", "out", "--ply", "--hfov", "0"], "--hfov must lie between"),
        (["depth", ".", "-o", "out", "--device", "0"], "device must be auto"),
    ],
)
def test_bad_input_is_one_line_and_status_one(words, reason, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    error = capsys.readouterr().err
    assert reason in error
    assert error.startswith("ssmde: ")
    assert error.count("\n") == 1


def test_bag_info_for_people_and_programs(tmp_path, capsys):
    bag = write(tmp_path / "bag", camera(3) | {"/depth": [image(10**9, "16UC1")]})
    assert main(["bag", "info", str(bag)]) == 0
    text = capsys.readouterr().out
    assert "/depth" in text
    assert "8x6, fx 50.0, no distortion" in text
    assert main(["bag", "info", str(bag), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {t["name"]: t["kind"] for t in told["topics"]} == {
        "/cam/image": "image", "/cam/camera_info": "camera_info", "/depth": "depth",
    }  # fmt: skip


def test_eval_prints_all_keys(tmp_path, weights, capsys):
    topics = camera(4) | {"/depth": [image(10**9 + i * 10**8, "16UC1") for i in range(3)]}
    bag = write(tmp_path / "bag", topics)
    assert main(["eval", "--bag", str(bag), "--depth-topic", "/depth", "--weights", str(weights), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) >= {"abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "d1", "d2", "d3", "frames", "align"}
    assert (told["frames"], told["frames_without_truth"], told["align"]) == (3, 1, "median")
    assert main(["eval", "--bag", str(bag), "--constant", "--align", "none", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["abs_rel"] == pytest.approx(abs(1 - 1.799) / 1.799, abs=1e-3)


def test_truth_must_be_near_in_time_however_long_the_bag_is(tmp_path, capsys):
    late = image(10**9)
    topics = camera(6) | {"/depth": [image(10**9, "16UC1")], "/long": [late] * 60}
    bag = write(tmp_path / "bag", topics)
    assert main(["eval", "--bag", str(bag), "--image-topic", "/cam/image", "--constant", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["frames"] == 1


def test_eval_with_a_calibration_of_another_size_says_so(tmp_path, weights, capsys):
    topics = camera(2) | {"/depth": [image(10**9, "16UC1")]}
    for made in topics["/cam/camera_info"]:
        made.width = 16
    bag = write(tmp_path / "bag", topics)
    assert main(["eval", "--bag", str(bag), "--weights", str(weights)]) == 1
    assert "the image is 8x6, its calibration for 16x6" in capsys.readouterr().err


def test_the_input_is_never_overwritten(pictures, weights, capsys):
    before = {p.name: p.read_bytes() for p in pictures.iterdir()}
    for given in (pictures, pictures / "a.png"):
        assert main(["depth", str(given), "-o", str(pictures), "--weights", str(weights)]) == 1
        assert "would be overwritten" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in pictures.iterdir()} == before


def test_frames_of_one_name_all_get_a_file(tmp_path, weights):
    bag = write(tmp_path / "bag", {"/image": [image(10**9), image(10**9, value=90)]})
    out = tmp_path / "out"
    assert main(["depth", str(bag), "-o", str(out), "--weights", str(weights), "--engine", "torch"]) == 0
    assert {p.name for p in out.glob("*.png")} == {"1000000000.png", "1000000000_2.png"}


def test_eval_without_ground_truth_says_so(tmp_path, capsys):
    bag = write(tmp_path / "bag", camera(2))
    assert main(["eval", "--bag", str(bag), "--constant"]) == 1
    assert "has no depth topic" in capsys.readouterr().err


def test_a_ply_holds_the_points_that_are_known(tmp_path):
    points = np.zeros((3, 4), np.float32)
    points[:, :3] = [[1, 2, 3], [np.nan, 0, 0], [4, 5, 6]]
    points[:, 3] = np.array([0x00102030, 0, 0x00FF8040], np.uint32).view(np.float32)
    assert write_ply(tmp_path / "p.ply", points) == 2
    body = (tmp_path / "p.ply").read_bytes().split(b"end_header\n")[1]
    vertices = np.frombuffer(body, np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)]))
    assert vertices["xyz"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert vertices["rgb"].tolist() == [[0x10, 0x20, 0x30], [0xFF, 0x80, 0x40]]


def test_the_rendered_cloud_shows_the_near_before_the_far():
    far = np.stack(np.meshgrid(np.linspace(-3, 3, 80), np.linspace(-3, 3, 80), [6.0]), -1).reshape(-1, 3)
    near = far / 3
    points = np.hstack([np.vstack([near, far]), np.zeros((12800, 1))]).astype(np.float32)
    points[:, 3] = np.repeat(np.array([0x00FF0000, 0x0000FF00], np.uint32), 6400).view(np.float32)
    view = render_cloud(points, (60, 80), turn=0.0, tilt=0.0)
    assert view[30, 40].tolist() == [0, 0, 255]
    assert (render_cloud(points[:0], (6, 8)) == 30).all()


def test_the_benchmark_counts_what_it_says():
    assert 1.7 < gigaflops(DepthNet(), (256, 320)) < 2.1
    assert matmul_peak((256,), 3) > 0
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0])["median_ms"] == 3.0


def test_a_folder_of_images_becomes_a_bag_that_reads_back(pictures, tmp_path, capsys):
    from ssmde_ros.data.bags import Bag

    out = tmp_path / "made"
    assert main(["bag", "from-video", str(pictures), str(out), "--hfov", "90", "--rate", "20"]) == 0
    assert "2 frames" in capsys.readouterr().out
    with Bag(out) as bag:
        topic = bag.choose("image", None, "-")
        frames = list(bag.images(topic))
        camera = bag.calibration(bag.camera_info_for(topic))
    assert frames[1].stamp - frames[0].stamp == 50_000_000
    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].frame_id == "camera_optical_frame"
    assert camera.k[0] == pytest.approx(32)
    assert main(["bag", "from-video", str(pictures), str(out), "--hfov", "90"]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [([], "either --hfov"), (["--hfov", "0"], "--hfov must lie"), (["--k", "0", "1", "1", "1"], "--k must")],
)
def test_a_bag_from_video_needs_a_camera(pictures, tmp_path, capsys, flags, said):
    assert main(["bag", "from-video", str(pictures), str(tmp_path / "made"), *flags]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name a recording"),
        (["recipe.yaml", "--start", "mine.safetensors"], "--start goes with --bag"),
        (["recipe.yaml", "--camera-info-topic", "/info"], "--camera-info-topic goes with --bag"),
        (["recipe.yaml", "--bag", "my_bag"], "lay recipe.yaml over it with --params"),
    ],
)
def test_what_a_training_would_ignore_is_refused(capsys, words, said):
    assert main(["train", *words]) == 1
    assert said in capsys.readouterr().err


def test_generations_on_the_command_line(tmp_path, weights, capsys):
    import shutil

    from ssmde_ros.training.generations import STUDENT, Generations, new_generation

    generations = Generations(tmp_path)
    for number, state in ((1, "promoted"), (2, "rejected")):
        record = new_generation(number, "abc", None, state=state, reason="measured", identity="def", gain=0.1)
        generations.add(record, lambda folder: shutil.copy(weights, folder / STUDENT))
    words = ["generations", "list", str(tmp_path)]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("* 0001  promoted")
    assert lines[1].startswith("  0002  rejected")
    assert main([*words, "--json"]) == 0
    assert [g["current"] for g in json.loads(capsys.readouterr().out)] == [True, False]
    assert main(["generations", "promote", str(tmp_path), "2"]) == 0
    assert generations.current.number == 2
    assert main(["generations", "rollback", str(tmp_path)]) == 0
    assert generations.current is None
    assert main(["generations", "show", str(tmp_path), "1"]) == 0
    assert main(["generations", "show", str(tmp_path), "7"]) == 1
    assert "no generation 0007" in capsys.readouterr().err
    assert main(["generations", "prune", str(tmp_path)]) == 0
    assert [g.number for g in generations.all()] == [1]
