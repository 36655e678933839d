"""Fine-tuning from a bag: a generation is written, judged, promoted only when it is better."""

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from ssmde_ros.cli import main
from ssmde_ros.data.clip import Clip
from ssmde_ros.data.recording import load_recording
from ssmde_ros.data.triplets import TrainingClip
from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import PinholeCamera
from ssmde_ros.networks import load_depth_net
from ssmde_ros.training.config_values import merged
from ssmde_ros.training.finetune import fine_tune
from ssmde_ros.training.finetune_config import parse_fine_tune, read_fine_tune
from ssmde_ros.training.generations import Generations
from ssmde_ros.training.material import gather, metric_end, working_size
from test.conftest import ROOT
from test.data.rendered_bag import rendered_bag
from test.training.fine_tuning import QUIET, SMALL, settings


@pytest.mark.slow
def test_a_bag_becomes_a_generation_and_the_next_one_starts_from_it(bag, tmp_path, weights, caplog):
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
    Generations(tmp_path).promote(1)
    child, _ = fine_tune(settings(bag, tmp_path, "latest"), **QUIET)
    assert child.parent_number == 1
    assert child.parent == generation.identity, "the next one starts from the promoted one"


@pytest.mark.slow
def test_settings_that_keep_leave_the_encoder_alone(bag, tmp_path, weights):
    values = {**SMALL, "bag": str(bag), "out": str(tmp_path), "start": str(weights), "odometry": "none"}
    fine_tune(read_fine_tune(ROOT / "config" / "train_keep.yaml", values), **QUIET)
    before, after = (
        load_depth_net(weights)[0],
        load_depth_net(Generations(tmp_path).folder(1) / "student.safetensors")[0],
    )
    for name, tensor in before.encoder.state_dict().items():
        assert torch.equal(after.encoder.state_dict()[name], tensor), name
    assert any(
        not torch.equal(a, b) for a, b in zip(before.decoder.parameters(), after.decoder.parameters(), strict=True)
    )


class Terms(Callback):
    """What the losses were made of."""

    def __init__(self):
        self.seen = set()

    def on_train_batch_end(self, trainer, module, *_):
        self.seen |= set(module.last.terms)


@pytest.mark.slow
def test_pseudo_depth_teaches_a_fine_tune_where_it_is_asked_for(bag, tmp_path, weights):
    def asking(folder, weight=0.5):
        pseudo = {"kind": "folder", "path": str(folder), "convention": "inverse_depth"}
        train = merged(SMALL["train"], {"pseudo": pseudo, "loss": {"pseudo": weight}})
        return settings(bag, tmp_path / "out", weights, train=train)

    with pytest.raises(SsmdeError, match="train.pseudo.kind is folder and train.loss.pseudo 0"):
        asking(tmp_path / "maps", 0.0)
    with pytest.raises(SsmdeError, match="pseudo-depth folder .* does not exist"):
        fine_tune(asking(tmp_path / "maps"), **QUIET)
    config = asking(tmp_path / "maps")
    (tmp_path / "maps").mkdir()
    for clip in load_recording(config.clip(96, 64), config.recording).clips:
        for name in clip.names:
            np.save(tmp_path / "maps" / name, np.linspace(0, 1, 64 * 96, dtype=np.float32).reshape(64, 96))
    terms = Terms()
    fine_tune(config, [terms], **QUIET)
    assert {"pseudo_static", "pseudo_ranking", "photometric", "distill"} <= terms.seen


@pytest.mark.slow
def test_training_that_changes_nothing_is_not_promoted(bag, tmp_path, weights, monkeypatch):
    # Reading and sorting out is the same for all seeds, and most of the time.
    material = gather(settings(bag, tmp_path, weights, odometry="none"), load_depth_net(weights)[0])
    monkeypatch.setattr("ssmde_ros.training.finetune.gather", lambda *_: material)
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
        ({"train": {"loss": {"pseudo": 0.5}}}, "train.pseudo.kind is none and train.loss.pseudo 0.5"),
        ({"train": {"loss": {"pseudo": "5e-1"}}}, "train.pseudo.kind is none and train.loss.pseudo 0.5"),
        ({"train": {"loss": {"stationary": 1.0, "auto_mask": False}}}, "stationary needs loss.auto_mask"),
        ({"train": {"loss": {"stationary": 1.0}, "teacher": {"kind": "none"}}}, "and a teacher"),
        ({"recording": {"max_frames": 1}}, "recording"),
        ({"train": {"run": {"minutes": 5}}}, "train.run.minutes is settled by minutes"),
        ({"train": {"model": {"init": "imagenet"}}}, "train.model.init is settled by start"),
        ({"train": {"clips": [{"path": "other"}]}}, "train.clips is settled by bag"),
        ({"minutes": True}, "minutes must be a number"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(values, said):
    with pytest.raises(Exception, match=said) as error:
        parse_fine_tune(values)
    assert "\n" not in str(error.value)


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
