"""The Lightning module: student, pose network, teacher, and the step that fits one screen."""

from __future__ import annotations

import time
from copy import deepcopy
from typing import Any

import lightning
import torch
from torch import Tensor, nn

from ssmde_ros.data.triplets import Batch
from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import DepthNet, PoseNet
from ssmde_ros.training.config import TrainConfig
from ssmde_ros.training.losses.pseudo import Convention
from ssmde_ros.training.objective import Objective
from ssmde_ros.training.replay import Replay
from ssmde_ros.training.schedules import WarmupCosine
from ssmde_ros.training.step import Step
from ssmde_ros.training.teacher import Teacher, follow


class NonFiniteLossError(SsmdeError):
    """A term of the loss is NaN or infinite; the message names it."""


class SelfDistillation(lightning.LightningModule):
    """SS-MDE's training.

    Attributes:
        student: trained by gradient; `averaged` is its moving average, which is validated and saved.
        pose_net: trained along.
        teacher: None where there is no distillation.
        elapsed: seconds of training so far, over all resumes.

    Args:
        steps_per_epoch: of all processes together.
        start_depth: harmonic mean of the depth that the student gives at first, metres.
        frozen_teacher: the earlier generation for `teacher.kind: frozen`; the student as it starts when None.
        replay: earlier material whose depth is kept.
    """

    def __init__(
        self,
        config: TrainConfig,
        student: DepthNet,
        pose_net: PoseNet,
        steps_per_epoch: float,
        start_depth: float,
        convention: Convention = "inverse_depth",
        frozen_teacher: DepthNet | None = None,
        replay: Replay | None = None,
    ) -> None:
        super().__init__()
        require_scales(config, student)
        self.config, self.replay = config, replay
        # Channels last: the depthwise convolutions of the encoder train half again as fast on a CPU.
        self.student: DepthNet = student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.pose_net = pose_net
        self.averaged = deepcopy(student).requires_grad_(False).eval()
        kind = config.teacher.kind
        momentum = config.teacher.momentum if kind == "ema" else 1.0
        self.teacher = None if kind == "none" else Teacher(frozen_teacher or student, momentum)
        self.objective = Objective(config, start_depth, convention)
        self.steps_per_epoch = steps_per_epoch
        self.schedule = WarmupCosine(config.optim.warmup, config.optim.flat, config.optim.end)
        self.elapsed = 0.0
        self._clock: float | None = None
        self.last: Step | None = None
        self._freeze()

    def _freeze(self) -> None:
        """Stop the gradient of the first encoder blocks."""
        for part in encoder_blocks(self.student)[: max(self.config.model.frozen_blocks, 0)]:
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> SelfDistillation:
        """Training mode, but batch statistics stay where the configuration says so, and averages stay averages."""
        super().train(mode)
        self.averaged.eval()
        if mode and self.config.model.freeze_norm:
            for module in self.student.encoder.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def on_train_start(self) -> None:
        # Lightning leaves the modes as it finds them, and a network fresh from a file is in eval mode.
        self.train()

    @property
    def epoch(self) -> float:
        """Fractional epoch: how often each target frame was seen on average."""
        return self.global_step / self.steps_per_epoch

    @property
    def progress(self) -> float:
        """Share of the run that is over, in [0, 1], by steps or by the clock, whichever is farther."""
        run = self.config.run
        by_clock = self.elapsed / (60 * run.minutes) if run.minutes else 0.0
        return min(1.0, max(self.global_step / run.steps, by_clock))

    def stop_clock(self) -> None:
        """Time until the next step does not count."""
        self._clock = None

    def training_step(self, batch: Batch, _: int) -> Tensor:
        now = time.monotonic()
        self.elapsed += now - self._clock if self._clock is not None else 0.0
        self._clock = now
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["base_lr"] * self.schedule[self.progress]
        step = self.objective(self.student, self.pose_net, self.teacher, batch, self.epoch)
        if self.replay is not None:
            step.add("replay", self.replay.loss(self.student, self.global_step), self.replay.weight)
        self._check_finite(step)
        self._log(step)
        return step.total

    def _check_finite(self, step: Step) -> None:
        bad = [name for name, value in step.terms.items() if not torch.isfinite(value)]
        # Masks leave pixels without a depth out, so a network that has none at all would cost nothing.
        if not torch.isfinite(step.maps["depth"]).all():
            bad.append("depth")
        if bad:
            raise NonFiniteLossError(
                f"step {self.global_step}: {', '.join(bad)} is not finite; the last checkpoint is kept. "
                "Lower optim.learning_rate or the weight of that term"
            )

    def _log(self, step: Step) -> None:
        values = {f"loss/{name}": value.detach() for name, value in step.terms.items()}
        self.log_dict({**values, **step.scalars})  # type: ignore[dict-item]
        self.log("loss", step.total.detach(), prog_bar=True)
        self.last = step

    def on_before_optimizer_step(self, _: torch.optim.Optimizer) -> None:
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        # A NaN gradient from a finite loss would poison every weight at once: better no step than that.
        if not torch.isfinite(nn.utils.get_total_norm(gradients)):
            raise NonFiniteLossError(
                f"step {self.global_step}: the gradient is not finite; the last checkpoint is kept. "
                "Lower optim.learning_rate"
            )

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """One step, and the averages follow: here, because checkpoints are written before `on_train_batch_end` is called."""
        super().optimizer_step(*arguments, **options)
        if self.teacher is not None:
            self.teacher.update(self.student)
        average, steps = self.config.optim.average, self.global_step + 1
        follow(self.averaged, self.student, min(average, (1 + steps) / (10 + steps)) if average else 0.0)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optim = self.config.optim
        encoder = [p for p in self.student.encoder.parameters() if p.requires_grad]
        rest = [*self.student.decoder.parameters(), *self.pose_net.parameters()]
        groups = [(encoder, optim.learning_rate * optim.encoder_factor), (rest, optim.learning_rate)]
        return torch.optim.AdamW(
            [{"params": p, "lr": rate, "base_lr": rate} for p, rate in groups if p],
            weight_decay=optim.weight_decay,
            # A tenth of a small step; but fused, the gradients of scaled losses cannot be clipped.
            fused=self.config.run.precision != "16-mixed",
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["elapsed"] = self.elapsed
        checkpoint["rng"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.elapsed = checkpoint["elapsed"]
        torch.set_rng_state(checkpoint["rng"])


def require_scales(config: TrainConfig, student: DepthNet) -> None:
    """Raise SsmdeError where the photometric loss is asked for at more scales than the student has."""
    if config.loss.photometric_scales > student.decoder.SCALES:
        raise SsmdeError(
            f"loss.photometric_scales: {student.config.encoder} has {student.decoder.SCALES} scales, "
            f"not {config.loss.photometric_scales}"
        )


def encoder_blocks(net: DepthNet) -> list[nn.Module]:
    """Parts of the encoder from the image on: the stem, then its blocks or layers."""
    encoder: Any = net.encoder
    if hasattr(encoder, "blocks"):
        return [encoder.stem, *encoder.blocks]
    if hasattr(encoder, "stages"):
        stages = zip(encoder.reductions, encoder.stages, strict=True)
        return [encoder.stem, *(part for reduction, stage in stages for part in (reduction, *stage))]
    return [nn.ModuleList([encoder.conv1, encoder.bn1]), *encoder.layers]
