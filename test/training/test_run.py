import logging
import os
import re
import subprocess
import sys
from dataclasses import replace

import lightning
import pytest
import torch

from ssmde_ros.data.clip import ClipError
from ssmde_ros.data.pair_motion import POINTS
from ssmde_ros.data.synthetic.clips import true_motions
from ssmde_ros.data.triplets import TrainingClip
from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import DepthNet, DepthNetConfig, load_depth_net, save_depth_net
from ssmde_ros.training.config import parse_config
from ssmde_ros.training.config_values import merged
from ssmde_ros.training.losses import sparse_loss
from ssmde_ros.training.module import NonFiniteLossError
from ssmde_ros.training.run import fit, skip_unknown
from test.conftest import ROOT
from test.training.scenes import rendered_clip, still_clip, training_clip

EVERY_TERM = {
    "model": {"init": "imagenet", "start_depth": 3.0},
    "pose": {"source": "odometry"},
    "loss": {
        "sparse": 0.1, "photometric_scales": 2, "source_gradient": True,
        "successive_scale": 0.1, "multi_resolution": 0.1, "distortion": 0.1,
    },
    "clips": [{"path": "unused", "width": 96, "height": 64, "odometry": "unused"}],
    "triplets": {"zoom": 0.2, "roll": 5.0},
    "run": {"steps": 6, "batch_size": 2, "checkpoint_every": 3, "picture_every": 3, "accelerator": "cpu"},
}  # fmt: skip
QUIET = {"enable_progress_bar": False}


def configuration(out, **changes):
    return parse_config(merged(merged(EVERY_TERM, {"run": {"out": str(out)}}), changes))


@pytest.fixture(scope="module")
def clip():
    return training_clip()


@pytest.mark.slow
def test_every_term_runs_and_leaves_weights_pictures_and_scalars(tmp_path, clip):
    module, weights = fit(configuration(tmp_path), [clip], **QUIET)
    wanted = {
        "photometric", "geometry", "smoothness", "distill", "pseudo_static", "pseudo_contrast", "pseudo_normals",
        "pseudo_ranking", "pseudo_edges", "successive_scale", "multi_resolution", "distortion", "pose",
    }  # fmt: skip
    assert set(module.last.terms) == wanted
    assert all(torch.isfinite(v) for v in module.last.terms.values())
    net, info = load_depth_net(weights)
    assert info.provenance["steps"] == 6
    assert info.config.scale_kind == "metric"
    for name, tensor in module.averaged.state_dict().items():
        assert torch.equal(tensor, net.state_dict()[name])
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "logs"))
    events.Reload()
    assert {"maps/input", "maps/depth", "maps/teacher", "maps/mask", "maps/dynamic", "maps/reprojection"} <= set(
        events.Tags()["images"]
    )


@pytest.mark.slow
def test_an_imported_architecture_learns_too(tmp_path, clip):
    start = DepthNet(DepthNetConfig("lite_mono_tiny", (16, 32, 64), padding="reflect", normalisation="grey"))
    save_depth_net(start, tmp_path / "start.safetensors", {})
    model = {"init": str(tmp_path / "start.safetensors"), "frozen_blocks": 2}
    module, weights = fit(configuration(tmp_path, model=model, run={"steps": 2}), [clip], logger=False, **QUIET)
    found, before = load_depth_net(weights)[0].state_dict(), start.state_dict()
    changed = {name.split(".")[1] for name, value in found.items() if not torch.equal(value, before[name])}
    assert changed >= {"stages", "reduce", "heads"} and not {"stem", "reductions.0"} & changed
    assert all(torch.isfinite(v) for v in module.last.terms.values())
    with pytest.raises(SsmdeError, match="photometric_scales: lite_mono_tiny has 3 scales, not 4"):
        fit(configuration(tmp_path, model=model, loss={"photometric_scales": 4}), [clip], logger=False, **QUIET)


@pytest.mark.slow
def test_the_sparse_term_hears_from_the_mask_filter_what_moves(tmp_path, monkeypatch):
    item = training_clip()
    middle = {"pixels": torch.tensor([48.0, 32.0]).expand(POINTS, 2), "inverse_depth": torch.full((POINTS,), 0.3)}
    item.motions = {pair: replace(found, **middle) for pair, found in item.motions.items()}
    told = []

    def listening(*given):
        told.append(given[-1])
        return sparse_loss(*given)

    monkeypatch.setattr("ssmde_ros.training.objective.terms.sparse_loss", listening)
    module, _ = fit(configuration(tmp_path, run={"steps": 1}), [item], logger=False, **QUIET)
    assert len(told) == 2, "one for each source"
    assert all(torch.equal(moving, module.last.maps["moving"]) for moving in told)
    fit(configuration(tmp_path / "free", run={"steps": 1}, teacher={"kind": "none"}), [item], logger=False, **QUIET)
    assert told[2:] == [None, None], "without a teacher there is no filter"


@pytest.mark.slow
def test_where_nothing_moves_in_the_picture_the_teacher_alone_teaches(tmp_path):
    picture = torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    changes = {
        "pose": {"source": "network"}, "run": {"steps": 1}, "triplets": {"zoom": 0.0, "roll": 0.0},
        "loss": {"stationary": 2.0, "successive_scale": 0, "multi_resolution": 0, "distortion": 0, "smoothness": 0},
    }  # fmt: skip
    module, _ = fit(configuration(tmp_path, **changes), [still_clip(picture)], logger=False, **QUIET)
    assert module.last.maps["stationary"].float().mean() > 0.9, "all but what has left the picture"
    assert not module.last.maps["photometric_mask"].any()
    assert module.last.weights["stationary"] == 2.0
    assert module.last.terms["photometric"] == module.last.terms["geometry"] == 0
    early = configuration(tmp_path / "early", **merged(changes, {"teacher": {"begin": 5.0}}))
    module, _ = fit(early, [still_clip(picture)], logger=False, **QUIET)
    assert not {"stationary", "distill"} & set(module.last.terms), "nothing is left to a teacher that is not there yet"
    assert "stationary" not in module.last.maps


@pytest.mark.slow
def test_what_asks_for_agreement_alone_waits_until_there_is_depth(tmp_path, clip):
    late = {"loss": {"geometry_begin": 100.0}, "run": {"steps": 1}}
    module, _ = fit(configuration(tmp_path, **late), [clip], logger=False, **QUIET)
    assert {"geometry", "successive_scale", "multi_resolution", "distortion"}.isdisjoint(module.last.terms)
    assert {"photometric", "pseudo_static"} <= set(module.last.terms)


@pytest.mark.slow
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(tmp_path, clip):
    whole, _ = fit(configuration(tmp_path / "whole"), [clip], logger=False, **QUIET)
    config = configuration(tmp_path / "parts")
    fit(config, [clip], logger=False, max_steps=3, **QUIET)
    rest, _ = fit(config, [clip], logger=False, **QUIET)
    assert rest.global_step == 6
    for name, tensor in whole.state_dict().items():
        if isinstance(tensor, torch.Tensor):
            torch.testing.assert_close(rest.state_dict()[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.slow
def test_a_fresh_start_ignores_the_checkpoint(tmp_path, clip):
    config = configuration(tmp_path)
    fit(config, [clip], logger=False, max_steps=3, **QUIET)
    module, _ = fit(config, [clip], logger=False, resume=False, max_steps=1, **QUIET)
    assert module.global_step == 1


@pytest.mark.slow
def test_a_term_that_is_not_finite_stops_the_run_by_name_and_keeps_the_checkpoint(tmp_path, clip):
    class Poison(lightning.Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            if trainer.global_step == 4:
                torch.nn.init.constant_(module.student.decoder.heads[0].bias, torch.nan)

    with pytest.raises(
        NonFiniteLossError, match="step 4: .*pseudo_ranking, .*depth is not finite; the last checkpoint is kept"
    ):
        fit(configuration(tmp_path), [clip], callbacks=[Poison()], logger=False, **QUIET)
    kept = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 3
    assert not (tmp_path / "student.safetensors").exists()


@pytest.mark.slow
def test_the_budget_in_minutes_ends_the_run_its_schedule_and_its_bar(tmp_path, clip, capsys):
    config = configuration(tmp_path, run={"steps": 1000, "minutes": 0.05})
    module, weights = fit(config, [clip], logger=False)
    assert module.global_step < 1000
    assert module.progress == 1
    assert weights.is_file()
    assert re.search(rf"training: 100%.*step={module.global_step}\b", capsys.readouterr().err)


def small(tmp_path, **changes):
    base = {
        "model": {"init": "imagenet"},
        "loss": {"pseudo": 0.0},
        "teacher": {"kind": "ema"},
        "run": {"out": str(tmp_path), "steps": 25, "batch_size": 2, "accelerator": "cpu"},
    }
    return parse_config(merged(base, changes))


def turning_clip():
    """The camera turns on the spot: a picture that only shifts."""
    clip = rendered_clip(frames=5)
    wide = rendered_clip(frames=1, size=(160, 64)).images[0]
    clip.images = torch.stack([wide[..., 4 * i : 4 * i + 96] for i in range(5)])
    return clip


def test_gaps_whose_motion_is_unknown_are_skipped_on_request_and_counted(tmp_path, caplog):
    config = configuration(tmp_path, pose={"unknown": "skip"})
    item = TrainingClip(rendered_clip(frames=6))
    item.motions = {pair: found for pair, found in true_motions(item.clip).items() if 0 not in pair}
    nothing = TrainingClip(rendered_clip(frames=4))
    with caplog.at_level(logging.INFO):
        skip_unknown([item, nothing], config)
    assert item.gaps == {2: (1,), 3: (1,), 4: (1,)}
    assert nothing.gaps == {}, "beside a clip that can teach it may be empty"
    assert "3 of 6 frames are used" in caplog.text
    with pytest.raises(ClipError, match="odometry knows for no frame .* unknown: network"):
        skip_unknown([nothing], config)


def test_without_the_request_the_pose_network_finds_them(tmp_path):
    item = TrainingClip(rendered_clip(frames=4))
    skip_unknown([item], configuration(tmp_path))
    assert item.gaps is None


DEGENERATE = {
    "static": lambda: still_clip(rendered_clip(frames=1).images[0]),
    "black": lambda: still_clip(torch.zeros(3, 64, 96, dtype=torch.uint8)),
    "white": lambda: still_clip(torch.full((3, 64, 96), 255, dtype=torch.uint8)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", DEGENERATE)
def test_a_camera_that_stands_still_is_named_and_breaks_nothing(tmp_path, caplog, kind):
    with caplog.at_level(logging.WARNING):
        module, _ = fit(small(tmp_path), [DEGENERATE[kind]()], logger=False, **QUIET)
    assert "does the camera stand still" in caplog.text
    assert all(torch.isfinite(p).all() for p in module.parameters())


@pytest.mark.slow
def test_two_identical_frames_pure_rotation_and_a_wrong_focal_length_stay_finite(tmp_path):
    same = rendered_clip()
    same.images[2] = same.images[1]
    off = rendered_clip()
    off.camera = replace(off.camera, fx=3 * off.camera.fx, fy=3 * off.camera.fy)
    for number, clip in enumerate((same, turning_clip(), off)):
        module, _ = fit(small(tmp_path / str(number)), [TrainingClip(clip)], logger=False, **QUIET)
        assert all(torch.isfinite(p).all() for p in module.parameters())
        spread = module.last.scalars["depth/spread"]
        assert spread > 0.005, "the depth is flat"


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one(tmp_path):
    script = ROOT / "test" / "training" / "gradients_of_first_step.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    for devices in (1, 2):
        done = subprocess.run(
            [sys.executable, str(script), str(devices), str(tmp_path / f"{devices}.pt")],
            capture_output=True, text=True, check=False, env=environment, timeout=200,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in (1, 2))
    assert one.keys() == two.keys()
    assert sum(float(g.abs().sum()) for g in one.values()) > 0
    for name, gradient in one.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(two[name], gradient, rtol=1e-6, atol=1e-9 * scale, msg=name)
