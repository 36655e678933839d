"""Fine-tuning from a bag: a generation is written, judged, promoted only when it is better."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from ssmde_ros.cli import main
from ssmde_ros.networks import load_depth_net
from ssmde_ros.training.finetune import fine_tune, unfinished
from ssmde_ros.training.finetune_config import parse_fine_tune, read_fine_tune
from ssmde_ros.training.generations import Generations
from ssmde_ros.training.holdout import Errors
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
    """Ten kills; losses of the last step and weights equal those of an uninterrupted run to 1e-4."""
    train = {"run": {"steps": 12, "batch_size": 2, "checkpoint_every": 1, "accelerator": "cpu"}}
    whole, _ = fine_tune(settings(bag, tmp_path / "whole", weights, train=train), **QUIET)
    words = ["train", "--bag", str(bag), "--out", str(tmp_path / "parts"), "--start", str(weights)]
    for key, value in {**SMALL, "train": train}.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    command = [sys.executable, "-m", "ssmde_ros.cli", *words]
    rng, kills = np.random.default_rng(0), 0
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    out = tmp_path / "parts"
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
