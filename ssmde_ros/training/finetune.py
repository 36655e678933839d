"""A recording in, a better student out, and never a worse one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray

from ssmde_ros.errors import SsmdeError
from ssmde_ros.files import whole_file
from ssmde_ros.networks import DepthNet, WeightsInfo, load_depth_net, save_depth_net
from ssmde_ros.networks.reference import depth_thumbnail, describe, reference
from ssmde_ros.resources import default_weights
from ssmde_ros.training.config import TrainConfig
from ssmde_ros.training.finetune_config import FineTuneConfig
from ssmde_ros.training.finetune_report import write_report
from ssmde_ros.training.generations import STUDENT, TEACHER, Generation, Generations, new_generation
from ssmde_ros.training.holdout import Errors
from ssmde_ros.training.interruption import Interruption
from ssmde_ros.training.keep_up import Choice, KeepUp
from ssmde_ros.training.material import Material, gather, metric_end, metric_start
from ssmde_ros.training.module import SelfDistillation, require_scales
from ssmde_ros.training.replay import FILE as REPLAY
from ssmde_ros.training.replay import Replay, earlier_images, spread, with_variations, write_buffer
from ssmde_ros.training.run import fit, provenance
from ssmde_ros.training.verdict import Verdict, judge

_REFERENCE_FRAMES = 200
_INTERVAL = 0.5e9  # nanoseconds
_UNTIMED = 1e6  # nanoseconds; the stamps of a folder of images are their numbers


def start_weights(config: FineTuneConfig, generations: Generations) -> tuple[Path, Generation | None]:
    """The weights to begin with, and the generation they are, if any."""
    if config.start == "latest":
        current = generations.current
        return (generations.weights(current), current) if current else (default_weights(), None)
    return (default_weights() if config.start == "shipped" else Path(config.start).expanduser()), None


def run_folder(out: Path, number: int) -> Path:
    """Where checkpoints and logs of a coming generation lie."""
    return out / "runs" / f"{number:04d}"


def unfinished(out: Path) -> Path | None:
    """Checkpoint of a run that was cut off before it became a generation; None when there is none."""
    last = run_folder(out, Generations(out).next_number()) / "checkpoints" / "last.ckpt"
    return last if last.is_file() else None


@dataclass(frozen=True)
class Outcome:
    """A finished training and what was thought of it.

    Attributes:
        choice: which weights of it became the student.
    """

    config: FineTuneConfig
    train: TrainConfig
    material: Material
    module: SelfDistillation
    choice: Choice
    parent: WeightsInfo
    earlier: NDArray[np.uint8] | None
    before: Errors
    after: Errors
    verdict: Verdict

    def metrics(self) -> dict[str, Any]:
        """For `metrics.json`."""
        return {
            "before": self.before.means(),
            "after": self.after.means(),
            "compared": {name: asdict(found) for name, found in self.verdict.compared.items()},
            "deciding": self.verdict.deciding,
            "steps": self.module.global_step,
            "minutes": round(self.module.elapsed / 60, 2),
            "student": {"minute": round(self.choice.minute, 2), "share": self.choice.share},
            "odometry": self.material.odometry,
            "lost_messages": self.material.recording.lost,
        }


def fine_tune(
    config: FineTuneConfig, callbacks: Sequence[Callback] = (), resume: bool = True, **trainer_options: Any
) -> tuple[Generation, Verdict]:
    """The whole of it: read, train, judge, and write a generation.

    Args:
        callbacks: beside the ones a run always has.
        resume: go on with a run that was cut off.
        trainer_options: passed to `lightning.Trainer`.

    Raises:
        SsmdeError: see `gather`; nothing earned earlier is lost.
    """
    generations = Generations(Path(config.out).expanduser())
    with generations.locked():
        finish_writing(generations)
        return _fine_tune(config, generations, callbacks, resume, trainer_options)


def finish_writing(generations: Generations) -> Generation | None:
    """Finish what a process that was killed right after writing a generation left undone.

    Returns:
        That generation; None where nothing was left.
    """
    last = None
    for each in generations.all():
        checkpoints = run_folder(generations.root.parent, each.number) / "checkpoints"
        if checkpoints.is_dir():
            generations.finish(each.number)
            shutil.rmtree(checkpoints, ignore_errors=True)
            last = each
    return last


def _fine_tune(
    config: FineTuneConfig,
    generations: Generations,
    callbacks: Sequence[Callback],
    resume: bool,
    trainer_options: dict[str, Any],
) -> tuple[Generation, Verdict]:
    start_path, parent = start_weights(config, generations)
    start, info = load_depth_net(start_path)
    require_scales(config.run(Path(), "visual", start_path), start)
    number = generations.next_number()
    folder = run_folder(generations.root.parent, number)
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    interruption = next((c for c in callbacks if isinstance(c, Interruption)), None)
    material = gather(config, start, interruption.proceed if interruption is not None else lambda: None)
    net = metric_start(start, material.learn) if material.odometry and start.config.scale_kind != "metric" else start
    _same_run(folder, _identity(config, info, material), config)
    train = config.run(folder, "odometry" if material.odometry else "visual", start_path)
    images, replay = _replay(config, net, start_path.parent, material)
    before_net = deepcopy(net)
    keep_up = KeepUp(material.holdout, net, config)
    module, _ = fit(
        train,
        material.learn,
        material.convention,
        callbacks=[*callbacks, keep_up],
        resume=resume,
        student=net,
        replay=replay,
        **trainer_options,
    )
    module.cpu().eval()
    choice = keep_up.choose(module)
    if start.config.scale_kind == "metric" and not material.odometry:
        module.averaged = metric_end(module.averaged, before_net.eval(), material.learn)
    # The start in the unit that the motions have: only then both are compared alike.
    both = [before_net.eval(), module.averaged]
    before, after = material.holdout.errors(both, module.pose_net, title="judging it")
    verdict = judge(before, after, config.min_gain, config.p_value, keep_up.looks)
    generation = new_generation(
        number, info.digest, parent.number if parent else None, state="promoted" if verdict.promoted else "rejected",
        reason=verdict.reason, identity="", gain=verdict.gain,
    )  # fmt: skip
    outcome = Outcome(config, train, material, module, choice, info, images, before, after, verdict)
    generation = _write(generations, generation, outcome, folder)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return generation, verdict


def _identity(config: FineTuneConfig, start: WeightsInfo, material: Material) -> dict[str, Any]:
    """What must not change between two parts of one run; budgets may."""
    camera = material.learn[0].clip.camera
    return {
        "bag": str(Path(config.bag).expanduser().resolve()),
        "start": start.digest,
        "odometry": material.odometry,
        "held_out": config.held_out,
        "pseudo": json.loads(json.dumps(config.train.get("pseudo", {}), default=str)),
        "loss": config.train.get("loss", {}),
        "replay": [config.replay_frames, config.replay_variations, config.replay_batch, config.replay_weight],
        "seed": config.seed,
        "size": [camera.width, camera.height],
    }


def _same_run(folder: Path, identity: dict[str, Any], config: FineTuneConfig) -> None:
    """Refuse to go on with the checkpoint of another run, and note which run this is."""
    note = folder / "run.json"
    if (folder / "checkpoints" / "last.ckpt").is_file() and note.is_file():
        other = json.loads(note.read_text("utf-8"))
        # What an earlier version did not note cannot be compared.
        changed = [f"{key} {other[key]}" for key, value in identity.items() if key in other and other[key] != value]
        if changed:
            raise SsmdeError(
                f"{config.out} holds an unfinished run with {', '.join(changed)}: finish that one first, drop it with "
                "--fresh (fresh:=true), or give another --out"
            )
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(note) as file:
        file.write(json.dumps(identity, indent=2).encode() + b"\n")


def _replay(
    config: FineTuneConfig, parent: DepthNet, folder: Path, material: Material
) -> tuple[NDArray[np.uint8] | None, Replay | None]:
    if not config.replay_frames or not config.replay_weight:
        return None, None
    camera = material.learn[0].clip.camera
    images = earlier_images(folder, config.replay_frames, camera.width, camera.height)
    own = spread([item.clip for item in material.learn], config.replay_frames)
    shown = with_variations(images, own, config.replay_variations)
    replay = Replay(shown, parent, camera.width, camera.height, config.replay_weight, config.replay_batch)
    return images, replay


def _write(generations: Generations, generation: Generation, outcome: Outcome, run: Path) -> Generation:
    """The generation as it was written, with the identity of its weights."""
    config, material, student = outcome.config, outcome.material, outcome.module.averaged
    made = provenance(outcome.train, material.learn, outcome.module)
    made |= {"parent": outcome.parent.digest, "bag": config.bag, "reference": seen_by(student, material)}
    weights = run / STUDENT
    save_depth_net(student, weights, made)
    generation = replace(generation, identity=load_depth_net(weights)[1].digest)

    def fill(folder: Path) -> None:
        shutil.copyfile(weights, folder / STUDENT)
        shutil.copyfile(outcome.parent.path, folder / TEACHER)
        (folder / "config.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(asdict(config))), sort_keys=False))
        (folder / "metrics.json").write_text(json.dumps(outcome.metrics(), indent=2) + "\n")
        if config.replay_frames:
            write_buffer(folder / REPLAY, outcome.earlier, [item.clip for item in material.learn], config.replay_frames)
        write_report(folder, generation, outcome)

    generations.add(generation, fill)
    weights.unlink()
    return generation


@torch.inference_mode()
def seen_by(student: DepthNet, material: Material) -> dict[str, tuple[float, float]]:
    """What the frames that were learned from look like, and their depth: the drift monitor's reference."""
    student.eval()
    observations = []
    for item in material.learn:
        before = None
        # As far apart as the frames that the live monitor compares: flicker grows with the time between.
        interval = float(np.median(np.diff(item.clip.stamps)))
        often = min(round(_INTERVAL / interval), len(item.clip) // 8) if interval > _UNTIMED else 1
        often = max(1, often, len(item.clip) * len(material.learn) // _REFERENCE_FRAMES)
        for image in item.clip.images[::often]:
            depth = student.depth(image[None].float() / 255)[0, 0].numpy()
            observations.append(describe(image.permute(1, 2, 0).numpy(), depth, before))
            before = depth_thumbnail(depth)
    return reference(observations)
