"""Killed, stopped, paused, started twice: nothing earned is lost, and no run takes over another."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import load_depth_net
from ssmde_ros.training.checkpoints import WholeCheckpoints
from ssmde_ros.training.finetune import fine_tune, finish_writing, run_folder, unfinished
from ssmde_ros.training.generations import Generations, new_generation
from ssmde_ros.training.interruption import Interruption, RunInterruptedError
from ssmde_ros.training.module import SelfDistillation
from test.conftest import ROOT
from test.training.fine_tuning import QUIET, SMALL, settings

KILLS = int(os.environ.get("SSMDE_KILLS", "2"))  # each costs a start; 10 before a release


@pytest.mark.slow
def test_killed_at_any_moment_the_run_goes_on_and_ends_the_same(bag, tmp_path, weights):
    """Gain and weights equal those of an uninterrupted run to 1e-4, however often it was killed."""
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
    while kills < KILLS and not Generations(out).all():
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
    assert kills >= max(2, KILLS // 2)
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
    assert finish_writing(generations) == record
    assert generations.current == record
    assert not checkpoints.exists()
    assert finish_writing(generations) is None


def test_what_people_chose_since_is_not_undone(tmp_path, weights):
    generations = Generations(tmp_path)
    for number, parent in ((1, None), (2, 1)):
        record = new_generation(number, "shipped", parent, state="promoted", reason="", identity="", gain=0.1)
        generations.add(record, lambda folder: shutil.copy(weights, folder / "student.safetensors"))
    (run_folder(tmp_path, 1) / "checkpoints").mkdir(parents=True)
    finish_writing(generations)
    assert generations.current.number == 2


def test_two_trainings_do_not_share_a_folder(bag, tmp_path, weights):
    with (
        Generations(tmp_path).locked(),
        pytest.raises(SsmdeError, match="another training is writing"),
    ):
        fine_tune(settings(bag, tmp_path, weights), **QUIET)


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
    with pytest.raises(OSError, match=r"cannot be written, \d+ MB are free there"):
        WholeCheckpoints().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"]


def test_asked_to_stop_while_it_reads_it_stops_before_the_training(bag, tmp_path, weights):
    interruption = Interruption()
    interruption.ask("the stop service")
    with pytest.raises(RunInterruptedError, match="stopped by the stop service before the training began"):
        fine_tune(settings(bag, tmp_path, weights), [interruption], **QUIET)
    assert not Generations(tmp_path).all()
    assert unfinished(tmp_path) is None
