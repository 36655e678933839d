"""Fine-tuning from a bag: a generation is written, judged, promoted only when it is better."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from ssmde_ros.cli import main
from ssmde_ros.data.clip import Clip
from ssmde_ros.data.triplets import TrainingClip
from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import PinholeCamera
from ssmde_ros.networks import load_depth_net
from ssmde_ros.training.checkpoints import WholeCheckpoints
from ssmde_ros.training.finetune import fine_tune, run_folder, settle, unfinished
from ssmde_ros.training.finetune_config import parse_fine_tune, read_fine_tune
from ssmde_ros.training.generations import Generations, new_generation
from ssmde_ros.training.holdout import Errors
from ssmde_ros.training.interruption import Interruption
from ssmde_ros.training.material import metric_end, working_size
from ssmde_ros.training.module import SelfDistillation
from ssmde_ros.training.verdict import judge
from test.conftest import ROOT
from test.data.rendered_bag import rendered_bag

SMALL = {
    "width": 96, "height": 64, "replay_frames": 4, "held_out": 0.3,
    "recording": {"workers": 1}, "key_frames": {"min_frames": 8},
    "train": {"run": {"steps": 4, "batch_size": 2, "checkpoint_every": 2, "accelerator": "cpu"}},
}  # fmt: skip
QUIET = {"enable_progress_bar": False, "logger": False}


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return rendered_bag(tmp_path_factory.mktemp("bags") / "room")


def settings(bag, out, weights, **changes):
    values = {**SMALL, "bag": str(bag), "out": str(out), "start": str(weights), **changes}
    return read_fine_tune(None, values)


@pytest.mark.slow
def test_a_bag_becomes_a_generation_with_all_that_belongs_to_it(bag, tmp_path, weights, caplog):
    caplog.set_level(logging.INFO)
    generation, verdict = fine_tune(settings(bag, tmp_path, weights), **QUIET)
    folder = Generations(tmp_path).folder(1)
    names = {p.name for p in folder.iterdir()}
    assert names >= {
        "student.safetensors", "teacher.safetensors", "config.yaml", "metrics.json", "report.md", "parallax.png",
        "replay.npz", "generation.json",
    }  # fmt: skip
    net, info = load_depth_net(folder / "student.safetensors")
    assert info.digest == generation.identity
    assert net.config.scale_kind == "metric", "the bag has odometry"
    assert generation.parent == load_depth_net(weights)[1].digest
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["odometry"] == "/odom"
    assert metrics["steps"] == 4
    assert set(metrics["before"]) >= {"depth", "points", "photometric"}
    assert verdict.deciding == "depth"
    assert "using /odom" in caplog.text
    report = (folder / "report.md").read_text()
    assert "key frames" in report
    assert all(
        (folder / line.split("](")[1].rstrip(")")).is_file() for line in report.splitlines() if line.startswith("![")
    )
    assert np.load(folder / "replay.npz")["images"].shape == (4, 64, 96, 3)
    assert (Generations(tmp_path).current is not None) == verdict.promoted


@pytest.mark.slow
def test_the_next_generation_starts_from_the_promoted_one(bag, tmp_path, weights):
    first, _ = fine_tune(settings(bag, tmp_path, weights), **QUIET)
    Generations(tmp_path).promote(1)
    second, _ = fine_tune(settings(bag, tmp_path, "latest"), **QUIET)
    assert second.parent_number == 1
    assert second.parent == first.identity


@pytest.mark.slow
def test_training_that_changes_nothing_is_not_promoted(bag, tmp_path, weights):
    for seed in range(5):
        values = {**SMALL["train"], "optim": {"learning_rate": 1e-12}}
        _, verdict = fine_tune(settings(bag, tmp_path, weights, train=values, seed=seed, odometry="none"), **QUIET)
        assert not verdict.promoted, verdict.reason
    assert Generations(tmp_path).current is None
    assert [g.state for g in Generations(tmp_path).all()] == ["rejected"] * 5


@pytest.mark.slow
def test_a_ruinous_learning_rate_is_not_promoted(bag, tmp_path):
    values = {**SMALL["train"], "optim": {"learning_rate": 0.05}}
    _, verdict = fine_tune(settings(bag, tmp_path, "shipped", train=values), **QUIET)
    assert not verdict.promoted, verdict.reason


@pytest.mark.slow
def test_killed_at_any_moment_the_run_goes_on_and_ends_the_same(bag, tmp_path, weights):
    """Ten kills; gain and weights equal those of an uninterrupted run to 1e-4."""
    train = {"run": {"steps": 12, "batch_size": 2, "checkpoint_every": 1, "accelerator": "cpu"}}
    out = tmp_path / "parts"
    words = ["train", "--bag", str(bag), "--start", str(weights)]
    for key, value in {**SMALL, "train": train}.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    command = [sys.executable, "-m", "ssmde_ros.cli", *words, "--out", str(out)]
    rng, kills = np.random.default_rng(0), 0
    # One thread for both: sums in another order differ by rounding, and Adam makes a step of its sign.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    once = subprocess.run(
        [*command[:-1], str(tmp_path / "whole")], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    assert once.returncode in (0, 3), once.stderr
    (whole,) = Generations(tmp_path / "whole").all()
    while kills < 10 and not Generations(out).all():
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before, started = unfinished(out), time.monotonic()
        stamp = before.stat().st_mtime_ns if before else 0
        # Killed a little after a new checkpoint, or at any time before.
        patience = rng.uniform(4, 60)
        while process.poll() is None and time.monotonic() - started < patience:
            last = unfinished(out)
            if last is not None and last.stat().st_mtime_ns != stamp and rng.random() < 0.3:
                break
            time.sleep(0.05)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr
    assert kills >= 5
    (found,) = Generations(out).all()
    one, two = (load_depth_net(Generations(p).folder(1) / "student.safetensors")[0] for p in (tmp_path / "whole", out))
    for name, tensor in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], tensor, rtol=1e-4, atol=1e-5, msg=name)
    assert found.gain == pytest.approx(whole.gain, abs=1e-4)


@pytest.mark.slow
def test_sigterm_ends_with_a_checkpoint_and_one_line(bag, tmp_path, weights):
    train = {"run": {"steps": 5000, "batch_size": 2, "checkpoint_every": 1000, "accelerator": "cpu"}}
    words = ["train", "--bag", str(bag), "--out", str(tmp_path), "--start", str(weights)]
    for key, value in {**SMALL, "train": train}.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ssmde_ros.cli", *words], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    # The logs appear when the first step is due; all before that is reading and matching.
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/0001/logs/events*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stopped by SIGTERM at step" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert unfinished(tmp_path) is not None


def test_a_bag_that_cannot_teach_is_refused_before_anything_is_written(tmp_path, weights, capsys):
    bag = rendered_bag(tmp_path / "still", frames=20, still=True)
    assert main(["train", "--bag", str(bag), "--out", str(tmp_path / "out"), "--start", str(weights)]) == 1
    assert "the camera never translates" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out" / "generations").exists()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"held_out": 0.9}, "held_out must lie in"),
        ({"speed": 3}, "unknown key speed"),
        ({"width": 64}, "width and height go together"),
        ({"train": {"loss": {"gamma": 2}}}, "gamma"),
        ({"recording": {"max_frames": 1}}, "recording"),
        ({"minutes": True}, "minutes must be a number"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(values, said):
    with pytest.raises(Exception, match=said) as error:
        parse_fine_tune(values)
    assert "\n" not in str(error.value)


def errors_of(**measures):
    return Errors(**{k: {(0, i): v for i, v in enumerate(values)} for k, values in measures.items()})


def test_depth_decides_where_it_is_known():
    rng = np.random.default_rng(0)
    old = rng.uniform(0.2, 0.3, 20)
    better = judge(errors_of(depth=old, photometric=old), errors_of(depth=old * 0.8, photometric=old * 1.2), 0.01, 0.01)
    assert better.promoted
    assert better.deciding == "depth"
    worse = judge(errors_of(depth=old, photometric=old), errors_of(depth=old * 1.2, photometric=old * 0.8), 0.01, 0.01)
    assert not worse.promoted


def test_without_depth_no_measure_may_become_worse():
    old = np.random.default_rng(0).uniform(0.2, 0.3, 20)
    found = judge(
        errors_of(points=old, photometric=old), errors_of(points=old * 0.8, photometric=old * 1.2), 0.01, 0.01
    )
    assert not found.promoted
    assert "photometric error became worse" in found.reason


def test_too_few_frames_judge_nothing():
    found = judge(errors_of(depth=[0.3] * 5), errors_of(depth=[0.1] * 5), 0.01, 0.01)
    assert not found.promoted
    assert "too little was held out" in found.reason


@pytest.mark.slow
def test_a_run_that_was_cut_off_is_not_taken_over_by_another(bag, tmp_path, weights):
    checkpoints = run_folder(tmp_path, 1) / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "last.ckpt").write_bytes(b"not looked at")
    note = {"bag": "/other/bag", "start": load_depth_net(weights)[1].digest}
    (checkpoints.parent / "run.json").write_text(json.dumps(note))
    with pytest.raises(SsmdeError, match=r"unfinished run with bag /other/bag.*--fresh"):
        fine_tune(settings(bag, tmp_path, weights), **QUIET)
    generation, _ = fine_tune(settings(bag, tmp_path, weights), resume=False, **QUIET)
    assert generation.number == 1


def test_killed_after_writing_a_generation_the_rest_is_done_next_time(tmp_path, weights):
    generations = Generations(tmp_path)
    record = new_generation(1, "shipped", None, state="promoted", reason="better", identity="", gain=0.1)
    generations.add(record, lambda folder: shutil.copy(weights, folder / "student.safetensors"))
    (generations.root / "promoted").unlink()
    checkpoints = run_folder(tmp_path, 1) / "checkpoints"
    checkpoints.mkdir(parents=True)
    assert settle(generations) == record
    assert generations.current == record
    assert not checkpoints.exists()
    assert settle(generations) is None


def test_two_trainings_do_not_share_a_folder(bag, tmp_path, weights):
    with (
        Generations(tmp_path).locked(),
        pytest.raises(SsmdeError, match="another training is writing"),
    ):
        fine_tune(settings(bag, tmp_path, weights), **QUIET)


def test_too_little_to_judge_by_is_said_before_the_training(bag, tmp_path, weights):
    with pytest.raises(SsmdeError, match="are held out to judge the result, 8 must be"):
        fine_tune(settings(bag, tmp_path, weights, held_out=0.1), **QUIET)


def test_a_torn_bag_is_salvaged_when_the_size_is_chosen_too(bag, tmp_path, weights):
    torn = tmp_path / "torn"
    shutil.copytree(bag, torn)
    (storage,) = [p for p in torn.iterdir() if p.name != "metadata.yaml"]
    storage.write_bytes(storage.read_bytes()[: int(0.8 * storage.stat().st_size)])
    config = settings(torn, tmp_path, weights, width=0, height=0)
    width, height = working_size(config, load_depth_net(weights)[0])
    assert width % 32 == height % 32 == 0
    assert width / height == pytest.approx(160 / 128, rel=0.1)


def test_metres_may_not_become_worse():
    old = np.random.default_rng(0).uniform(0.2, 0.3, 20)
    found = judge(errors_of(depth=old, metric=old), errors_of(depth=old * 0.8, metric=old * 1.3), 0.01, 0.01)
    assert not found.promoted
    assert "in metres" in found.reason
    assert judge(errors_of(depth=old, metric=old), errors_of(depth=old * 0.8, metric=old * 0.9), 0.01, 0.01).promoted


def test_a_metric_student_keeps_its_unit(weights):
    start = load_depth_net(weights)[0]
    drifted = load_depth_net(weights)[0]
    object.__setattr__(drifted, "config", replace(drifted.config, min_depth=0.2, max_depth=200.0))
    assert start.config.max_depth == 100
    images = torch.randint(0, 255, (3, 3, 64, 96), dtype=torch.uint8)
    clip = Clip("c", images, PinholeCamera(96, 64, 80, 80, 47.5, 31.5), np.arange(3), list("abc"))
    back = metric_end(drifted, start, [TrainingClip(clip)])
    assert back.config.scale_kind == "metric"
    picture = images[:1].float() / 255
    torch.testing.assert_close(back.depth(picture), start.depth(picture), rtol=1e-3, atol=0)


def test_a_pause_costs_no_training_time():
    class Clock(SelfDistillation):
        def __init__(self):  # no networks
            torch.nn.Module.__init__(self)
            self._clock = 5.0

    module, interruption = Clock(), Interruption()
    interruption.on_train_batch_start(None, module)
    assert module._clock == 5.0
    interruption.paused = True
    threading.Timer(0.3, lambda: setattr(interruption, "paused", False)).start()
    interruption.on_train_batch_start(None, module)
    assert module._clock is None


def test_a_checkpoint_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"step": 1}, path)

    def full(_, file):
        file.write(b"half of it")
        raise RuntimeError("PytorchStreamWriter failed writing file data/1: file write failed")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="cannot be written"):
        WholeCheckpoints().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]
