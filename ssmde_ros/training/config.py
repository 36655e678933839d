"""Settings of a training run: YAML in, validated dataclasses out. Every weight, gate and option is a key."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import dacite
import yaml

from ssmde_ros.data.clip import ClipConfig
from ssmde_ros.data.triplets import TripletConfig
from ssmde_ros.errors import SsmdeError
from ssmde_ros.training.config_values import check_values, merged, number
from ssmde_ros.training.mask_filter import MaskFilterConfig
from ssmde_ros.training.pseudo_depth import PseudoDepthConfig
from ssmde_ros.training.schedules import WarmupCosine


class TrainConfigError(SsmdeError):
    """A training configuration that cannot be used; the message names the key."""


@dataclass(frozen=True)
class ModelConfig:
    """The student.

    Attributes:
        init: "shipped" weights, "imagenet" encoder with a fresh decoder, or a weights file.
        min_depth, max_depth: output range of a fresh network, metres; weights files bring their own.
        start_depth: depth a fresh network predicts everywhere at first, metres; about what the camera sees.
        dense_skips: dense skip connections in a fresh decoder (Xiang 2024).
        frozen_blocks: encoder blocks, stem included, that are not trained; -1 trains all.
        freeze_norm: keep the batch statistics of the encoder, which small batches only disturb.
    """

    init: str = "shipped"
    min_depth: float = 0.1
    max_depth: float = 100.0
    start_depth: float = 3.0
    dense_skips: bool = False
    frozen_blocks: int = -1
    freeze_norm: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.min_depth < self.start_depth < self.max_depth:
            raise ValueError("model: need 0 < min_depth < start_depth < max_depth")


@dataclass(frozen=True)
class PoseConfig:
    """Ego-motion.

    Attributes:
        source: "network", or an aid: "visual" (our odometry, up to scale), "odometry" (a topic, metric).
        unknown: pairs that the aid does not know move by the "network", or samples "skip" the gaps that need them.
        init: pose network to start from: "shipped" weights, "fresh" or a weights file.
        regularise: weight that pulls the network towards the aid.
        min_points: triangulated points that visual odometry must have before it is believed.
        slack: how far odometry's translation may be stretched so that its triangulated points agree with the depth.
    """

    source: Literal["network", "visual", "odometry"] = "network"
    unknown: Literal["network", "skip"] = "network"
    init: str = "shipped"
    regularise: float = 1.0
    min_points: int = 24
    slack: float = 0.25

    def __post_init__(self) -> None:
        if min(self.regularise, self.slack) < 0 or self.min_points < 1:
            raise ValueError("pose: regularise and slack must not be negative, min_points at least 1")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the terms of the loss (docs/method.md); 0 switches a term off and saves its time.

    Attributes:
        photometric, geometry, smoothness, sparse, distill: self-supervision and self-distillation.
        stationary: of the teacher on regions that look best when nothing moves, left out by photometry and geometry.
        geometry_begin, geometry_length: epochs, of the relatives too; nothing is as consistent as a fresh flat depth.
        pseudo: lambda_0 of the pseudo-depth terms, at least `pseudo_floor`.
        gamma, gamma_dynamic: forgetting factors per epoch, where nothing and where something moves.
        pseudo_contrast, pseudo_normals, pseudo_ranking, pseudo_edges: shares of the parts beside the map's shape.
        auto_mask, moving_weight: leave out pixels that look best when nothing moves; weigh others by `1 - D_diff`.
        photometric_scales: decoder outputs that get a photometric loss, 1 to 4.
        source_gradient: let geometry also train the depth of the source frames; twice the time.
        static_difference: `D_diff` below which a pixel counts as static for the pseudo-depth terms.
        scale: holds the scale of the start wherever the pose network alone says how far the camera went.
        supervised: weight of true depth, for clips that have it (the synthetic world): an upper bound.
        successive_scale, multi_resolution, distortion: of Xiang 2024, Lee 2023, Mendoza & Pedrini 2022.
    """

    photometric: float = 1.0
    geometry: float = 0.1
    geometry_begin: float = 0.0
    geometry_length: float = 0.0
    smoothness: float = 0.03
    sparse: float = 0.0
    pseudo: float = 0.5
    gamma: float = 0.8
    gamma_dynamic: float = 1.0
    pseudo_floor: float = 0.0
    pseudo_contrast: float = 1.0
    pseudo_normals: float = 0.2
    pseudo_ranking: float = 0.5
    pseudo_edges: float = 0.1
    distill: float = 0.5
    stationary: float = 0.0
    scale: float = 0.1
    auto_mask: bool = True
    moving_weight: bool = True
    photometric_scales: int = 1
    source_gradient: bool = False
    static_difference: float = 0.15
    successive_scale: float = 0.0
    multi_resolution: float = 0.0
    distortion: float = 0.0
    supervised: float = 0.0

    def __post_init__(self) -> None:
        negative = [k for k, v in vars(self).items() if v < 0]
        if negative:
            raise ValueError(f"loss: {', '.join(negative)} must not be negative")
        if not 1 <= self.photometric_scales <= 4:
            raise ValueError(f"loss: photometric_scales must be 1 to 4, got {self.photometric_scales}")
        if not all(0 < gamma <= 1 for gamma in (self.gamma, self.gamma_dynamic)):
            raise ValueError(f"loss: gamma, gamma_dynamic must lie in (0, 1], got {self.gamma}, {self.gamma_dynamic}")


@dataclass(frozen=True)
class TeacherConfig:
    """The teacher.

    Attributes:
        kind: "none", "frozen" (the weights in `weights`, or the student as it starts) or "ema".
        weights: weights file of a frozen teacher; "" is the student as it starts.
        momentum: of the moving average, per step.
        begin, length: epoch at which distillation starts, and epochs until it has its full weight.
        multi_view_mask: filter the teacher's pixels; without it all of them teach.
    """

    kind: Literal["none", "frozen", "ema"] = "ema"
    weights: str = ""
    momentum: float = 0.995
    begin: float = 0.0
    length: float = 0.0
    multi_view_mask: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.momentum < 1 or min(self.begin, self.length) < 0:
            raise ValueError("teacher: momentum must lie in (0, 1), begin and length must not be negative")


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and its schedule.

    Attributes:
        learning_rate: of decoder and pose network; the encoder gets `encoder_factor` of it.
        warmup, flat, end: see `WarmupCosine`; clip: largest gradient norm.
        average: momentum of the averaged weights that are validated and saved; 0 saves the last step's.
    """

    learning_rate: float = 1e-3
    encoder_factor: float = 0.1
    weight_decay: float = 1e-3
    warmup: float = 0.03
    flat: float = 0.3
    end: float = 0.01
    clip: float = 1.0
    average: float = 0.99

    def __post_init__(self) -> None:
        if min(self.learning_rate, self.clip) <= 0 or not 0 <= self.average < 1:
            raise ValueError("optim: learning_rate and clip must be positive, average in [0, 1)")
        if min(self.encoder_factor, self.weight_decay) < 0:
            raise ValueError("optim: encoder_factor and weight_decay must not be negative")
        WarmupCosine(self.warmup, self.flat, self.end)  # refuses what it cannot do


@dataclass(frozen=True)
class RunConfig:
    """How long, where, and what is written.

    Attributes:
        out: output folder: checkpoints, logs, student.safetensors.
        steps, minutes: optimiser steps and wall-clock minutes at most; the schedule follows both. 0 minutes: no limit.
        batch_size: samples per process.
        seed: everything random follows from it; threads: CPU threads, 0 for torch's choice.
        accelerator, devices, nodes, precision: as in `lightning.Trainer`; more than one process runs DDP.
        checkpoint_every, picture_every: steps between checkpoints and between pictures for TensorBoard.
    """

    out: Path = Path("runs/ssmde")
    steps: int = 2000
    minutes: float = 0.0
    batch_size: int = 4
    seed: int = 0
    threads: int = 0
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    precision: str = "32-true"
    checkpoint_every: int = 100
    picture_every: int = 200

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.devices, self.nodes, self.checkpoint_every, self.picture_every) < 1:
            raise ValueError("run: steps, batch_size, devices, nodes and intervals must be at least 1")
        if min(self.minutes, self.threads, self.seed) < 0:
            raise ValueError("run: minutes, threads and seed must not be negative")


@dataclass(frozen=True)
class TrainConfig:
    """A whole run. `clips` are what it learns from; all share one working size."""

    clips: tuple[ClipConfig, ...] = ()
    triplets: TripletConfig = field(default_factory=TripletConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    pose: PoseConfig = field(default_factory=PoseConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    mask: MaskFilterConfig = field(default_factory=MaskFilterConfig)
    pseudo: PseudoDepthConfig = field(default_factory=PseudoDepthConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)

    def __post_init__(self) -> None:
        if len({(c.width, c.height) for c in self.clips}) > 1:
            raise ValueError("clips: all must have one working size")
        if self.loss.stationary > 0 and not (
            self.loss.auto_mask and self.loss.photometric > 0 and self.teacher.kind != "none"
        ):
            raise ValueError(
                "loss.stationary needs loss.auto_mask, loss.photometric and a teacher; without them set it to 0"
            )
        if self.pose.source == "odometry" and not any(c.odometry for c in self.clips):
            raise ValueError("pose.source is odometry, but no clip names its odometry topic (clips: odometry: /odom)")


def parse_config(values: dict[str, Any], where: str = "configuration") -> TrainConfig:
    """Validated settings from nested mappings.

    Raises:
        TrainConfigError: an unknown key, a wrong type or a value out of range; one line that names it.
    """
    try:
        check_values(TrainConfig, values, "")
        return dacite.from_dict(TrainConfig, values, dacite.Config(cast=[Path, tuple], type_hooks={float: number}))  # type: ignore[arg-type]
    except (dacite.DaciteError, ValueError, TypeError) as error:
        raise TrainConfigError(f"{where}: {' '.join(str(error).split())}") from error


def read_config(path: Path, overrides: dict[str, Any] | None = None) -> TrainConfig:
    """Settings from a YAML file; `overrides` are nested mappings laid over it. Raises TrainConfigError, one line."""
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())
        raise TrainConfigError(f"training configuration {path} cannot be read: {why}") from error
    if values is not None and not isinstance(values, dict):  # an empty file asks for the defaults
        raise TrainConfigError(f"training configuration {path} must be a mapping, not a {type(values).__name__}")
    return parse_config(merged(values or {}, overrides or {}), str(path))
