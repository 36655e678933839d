"""A whole training run: recordings in, a weights file out; interrupted at any time, it goes on where it stopped."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from ssmde_ros.data.checkup import checkup
from ssmde_ros.data.clip import ClipError, load_clip
from ssmde_ros.data.motion import pair_motions
from ssmde_ros.data.triplets import TrainingClip, Triplets, known_gaps, wanted_pairs
from ssmde_ros.errors import SsmdeError
from ssmde_ros.memory import keep_freed_memory
from ssmde_ros.networks import DepthNet, DepthNetConfig, PoseNet, load_depth_net, load_pose_net, save_depth_net
from ssmde_ros.resources import default_weights, pose_weights
from ssmde_ros.training.callbacks import Pictures, StopAtBudget
from ssmde_ros.training.checkpoints import WholeCheckpoints
from ssmde_ros.training.config import TrainConfig
from ssmde_ros.training.interruption import Interruption
from ssmde_ros.training.losses import mean_depth
from ssmde_ros.training.losses.pseudo import Convention
from ssmde_ros.training.module import SelfDistillation
from ssmde_ros.training.progress_bar import BudgetBar
from ssmde_ros.training.pseudo_depth import ask_for_pseudo_depth, make_provider
from ssmde_ros.training.replay import Replay

_log = logging.getLogger(__name__)


def prepare(config: TrainConfig) -> tuple[list[TrainingClip], Convention]:
    """Read the recordings, and work out motions and pseudo-depth once.

    Raises:
        SsmdeError: a recording that cannot be used, or a pseudo-depth provider that cannot be had.
    """
    if not config.clips:
        raise ClipError("nothing to train on: name recordings under `clips`")
    provider = make_provider(config.pseudo)
    aided = config.pose.source != "network" or config.loss.sparse > 0
    clips = []
    for each in config.clips:
        clip = load_clip(each)
        for line in checkup(clip, config.triplets.gaps):
            _log.warning("%s: %s", clip.name, line)
        if not aided:
            clip.tracking = []
        if config.pose.source != "odometry":
            clip.poses = clip.pose_known = None
        item = TrainingClip(clip)
        work_out(item, config)
        clips.append(item)
    skip_unknown(clips, config)
    return clips, ask_for_pseudo_depth(provider, clips, config.triplets.gaps)


def work_out(item: TrainingClip, config: TrainConfig) -> None:
    """Motions and points of a clip, in place; computed once, before the training."""
    if config.pose.source != "network" or config.loss.sparse > 0:
        item.motions = pair_motions(item.clip, wanted_pairs(item, config.triplets.gaps), config.run.seed)
        _report_motion(item, config)


def skip_unknown(items: Sequence[TrainingClip], config: TrainConfig) -> None:
    """With `pose.unknown: skip`, leave each frame only the gaps at which the aid knows both motions, in place.

    Raises:
        ClipError: there is none in any of the clips.
    """
    if config.pose.source == "network" or config.pose.unknown == "network":
        return
    for item in items:
        item.gaps = known_gaps(item, config.triplets.gaps, config.pose.min_points)
        _log.info("%s: %d of %d frames are used", item.clip.name, len(item.gaps), len(item.clip))
    if not any(item.gaps for item in items):
        raise ClipError(
            f"{', '.join(item.clip.name for item in items)}: {config.pose.source} knows for no frame how the camera moved "
            "to both neighbours; try larger triplets.gaps, or let the pose network find it (pose: unknown: network)"
        )


def _report_motion(item: TrainingClip, config: TrainConfig) -> None:
    pairs = wanted_pairs(item, config.triplets.gaps)
    known = sum(pair in item.motions for pair in pairs)
    share = known / max(len(pairs), 1)
    skipped = config.pose.unknown == "skip"
    _log.log(
        logging.WARNING if share < 0.5 and not skipped else logging.INFO,
        "%s: %s knows the motion of %d of %d pairs of frames; %s%s",
        item.clip.name, config.pose.source, known, len(pairs),
        "training skips the others" if skipped else "the pose network has to find the others",
        " (does the camera translate? try larger gaps)" if share < 0.5 else "",
    )  # fmt: skip


def build_student(config: TrainConfig, width: int, height: int) -> DepthNet:
    """The network to train.

    Args:
        width, height: working size, pixels; a fresh network is labelled with it.

    Raises:
        WeightsError: a weights file that cannot be used.
    """
    model = config.model
    if model.init != "imagenet":
        net, _ = load_depth_net(default_weights() if model.init == "shipped" else Path(model.init))
        return net
    torch.manual_seed(config.run.seed)
    metric = config.pose.source == "odometry"
    net = DepthNet(
        DepthNetConfig(
            input_width=width,
            input_height=height,
            min_depth=model.min_depth,
            max_depth=model.max_depth,
            scale_kind="metric" if metric else "relative",
            dense_skips=model.dense_skips,
        )
    )
    net.load_imagenet()
    net.start_at(model.start_depth)
    return net


def build_pose_net(config: TrainConfig) -> PoseNet:
    """The pose network to train along.

    Raises:
        WeightsError: a weights file that cannot be used.
    """
    init = config.pose.init
    if init == "fresh":
        torch.manual_seed(config.run.seed)
        return PoseNet()
    return load_pose_net(pose_weights() if init == "shipped" else Path(init))


@torch.inference_mode()
def depth_at_first(student: DepthNet, clips: Sequence[TrainingClip], frames: int = 8) -> float:
    """Harmonic mean, over a few frames of each clip, of the depth that the student gives before it learns, metres."""
    student.eval()
    images = torch.cat([c.clip.images[:: max(1, len(c.clip) // frames)][:frames] for c in clips[:frames]])
    return float(torch.cat([1 / mean_depth(student.depth(i[None].float() / 255)) for i in images]).mean().reciprocal())


class TripletData(lightning.LightningDataModule):
    """Gives each process its share of the samples, from the step it resumes at."""

    def __init__(self, config: TrainConfig, clips: Sequence[TrainingClip]) -> None:
        super().__init__()
        self.config, self.clips = config, clips

    def triplets(self, rank: int = 0, world: int = 1) -> Triplets:
        run = self.config.run
        return Triplets(self.clips, self.config.triplets, run.batch_size, run.steps, rank, world)

    def train_dataloader(self) -> Triplets:
        assert self.trainer is not None
        triplets = self.triplets(self.trainer.global_rank, self.trainer.world_size)
        triplets.start = self.trainer.global_step
        return triplets


def fit(
    config: TrainConfig,
    clips: Sequence[TrainingClip],
    convention: Convention = "inverse_depth",
    callbacks: Sequence[Callback] = (),
    resume: bool = True,
    student: DepthNet | None = None,
    replay: Replay | None = None,
    **trainer_options: Any,
) -> tuple[SelfDistillation, Path]:
    """Train, and write the averaged student to `out/student.safetensors`.

    Args:
        student: the network to train, instead of the one the configuration names.
        replay: earlier material whose depth is kept.
        resume: go on from the last checkpoint in `out`, when there is one.
        trainer_options: passed to `lightning.Trainer`, over what the configuration says.

    Returns:
        The trained module and the weights file.

    Raises:
        NonFiniteLossError: a term or gradient became NaN or infinite; the last checkpoint stays.
        RunInterruptedError: a signal came; the checkpoint is written.
        SsmdeError: the disk refuses; the last checkpoint stays.
    """
    run = config.run
    keep_freed_memory()
    if run.threads:
        torch.set_num_threads(run.threads)
    lightning.seed_everything(run.seed, workers=True, verbose=False)
    camera = clips[0].clip.camera
    student = student or build_student(config, camera.width, camera.height)
    data = TripletData(config, clips)
    world = run.devices * run.nodes
    frozen = None
    if config.teacher.kind == "frozen" and config.teacher.weights:
        frozen = load_depth_net(Path(config.teacher.weights))[0]
    steps_per_epoch = data.triplets(world=world).steps_per_epoch
    pose_net = build_pose_net(config)
    start_depth = depth_at_first(student, clips)
    module = SelfDistillation(config, student, pose_net, steps_per_epoch, start_depth, convention, frozen, replay)
    keeper = ModelCheckpoint(
        run.out / "checkpoints",
        save_last=True,
        save_top_k=0,
        every_n_train_steps=run.checkpoint_every,
        enable_version_counter=False,  # else a file that is there already is left alone for ever, and `last` is old
    )
    last = run.out / "checkpoints" / "last.ckpt"
    interruption = next((c for c in callbacks if isinstance(c, Interruption)), None) or Interruption()
    interruption.checkpoint = last
    others = [c for c in callbacks if c is not interruption]
    options: dict[str, Any] = {
        "max_steps": run.steps,
        "max_epochs": -1,
        "callbacks": [keeper, StopAtBudget(), Pictures(run.picture_every), *others, interruption],
        "logger": TensorBoardLogger(run.out, name="logs", version=""),
        "gradient_clip_val": config.optim.clip,
        "accelerator": run.accelerator,
        "devices": run.devices,
        "num_nodes": run.nodes,
        "strategy": "ddp_find_unused_parameters_true" if world > 1 else "auto",
        "precision": run.precision,
        "log_every_n_steps": 20,
        "enable_model_summary": False,
        "plugins": [WholeCheckpoints()],
        "default_root_dir": run.out,
    }
    if trainer_options.get("enable_progress_bar", True):
        options["callbacks"].append(BudgetBar())
    trainer = lightning.Trainer(**(options | trainer_options))
    _ignore_known_warnings()
    goes_on = resume and last.is_file()
    if goes_on:
        _log.info("going on from %s", last)
    try:
        with interruption.listening():
            trainer.fit(module, data, ckpt_path=last if goes_on else None, weights_only=True)
        weights = run.out / "student.safetensors"
        if trainer.is_global_zero:
            save_depth_net(module.averaged, weights, provenance(config, clips, module))
    except OSError as error:
        raise SsmdeError(f"{run.out} cannot be written: {error}; the last checkpoint is kept") from error
    return module, weights


def _ignore_known_warnings() -> None:
    """Of Lightning's warnings, hide those that mean nothing here, by their text."""
    for text in (
        ".*isinstance.treespec, LeafSpec.. is deprecated",  # its own use of torch
        "Found .* module.s. in eval mode",  # the teacher, the averages and the frozen batch norm are meant to be
        "The number of training batches .* is smaller than the logging interval",  # a run of less than 20 steps
        "You're resuming from a checkpoint that ended before the epoch ended",  # a sample is a function of its number
    ):
        warnings.filterwarnings("ignore", message=text)


def provenance(config: TrainConfig, clips: Sequence[TrainingClip], module: SelfDistillation) -> dict[str, Any]:
    """How the weights were made, for their metadata."""
    return {
        "method": "SS-MDE self-distillation",
        "clips": [{"name": c.clip.name, "frames": len(c.clip)} for c in clips],
        "start": config.model.init,
        "pose": config.pose.source,
        "pseudo": config.pseudo.kind,
        "teacher": config.teacher.kind,
        "steps": module.global_step,
        "minutes": round(module.elapsed / 60, 1),
    }
