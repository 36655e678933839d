"""Validation while a fine-tune runs: keeps the best weights, stops it when it no longer gets better, tells how it is doing."""

from __future__ import annotations

import logging
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from ssmde_ros.networks import DepthNet
from ssmde_ros.training.finetune_config import FineTuneConfig
from ssmde_ros.training.holdout import Errors, Holdout
from ssmde_ros.training.module import SelfDistillation
from ssmde_ros.training.verdict import NAMES, deciding_measure, unopposed

_log = logging.getLogger(__name__)

_FRAMES = 40  # held-out frames of a validation
_SETTLED = 0.5  # of the run before waiting counts: until then the learning rate is high and errors go up and down
_DIVERGED = 1.5  # times the error at the start
_SHARES = (1.0, 0.75, 0.5, 0.25)  # of the way from the start that are tried at the end


@dataclass(frozen=True)
class Choice:
    """Which weights of a training became the student.

    Attributes:
        minute: of the training.
        share: of the way from the start to the weights of that minute, (0, 1].
    """

    minute: float
    share: float


class KeepUp(Callback):
    """Validates the averaged student on held-out frames.

    Args:
        start: the network that training began with.

    Attributes:
        looks: errors of the start and of the student each time: the frames that choose judge too, so all are counted.
    """

    def __init__(self, holdout: Holdout, start: DepthNet, config: FineTuneConfig) -> None:
        self.holdout, self.config = holdout, config
        self.looks: list[tuple[Errors, Errors]] = []
        self.start = deepcopy(start).eval()
        self.best, self.waited, self._due = float("inf"), 0, 60 * config.validate_every
        self.kept: dict[str, Any] = {}  # minute and state of the best student

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        assert isinstance(module, SelfDistillation)
        if module.elapsed < self._due:
            return
        self._due = module.elapsed + 60 * self.config.validate_every
        first, found = self._look(module)
        for measure, value in found.items():
            module.log(f"holdout/{measure}", value)
        if (name := _deciding(found)) is not None:
            self._decide(trainer, module, found[name], first.get(name))

    def choose(self, module: SelfDistillation) -> Choice:
        """Give the student the weights that do best: the last ones or the best seen on the way, or between the start and them.

        Weights that another measure would keep from promotion are passed over, where there are others.
        Training on one recording goes too far as easily as not far enough, and the weights between two ends are often
        better than either, there and elsewhere (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
        """
        ends = [(module.elapsed / 60, _state(module.averaged))]
        if self.kept:
            ends.append((self.kept["minute"], self.kept["student"]))
        start = _state(self.start)
        choices = [Choice(minute, share) for minute, _ in ends for share in _SHARES]
        states = [_between(start, state, share) for _, state in ends for share in _SHARES]
        pose_net = deepcopy(module.pose_net).cpu().eval()
        nets = [self.start, *map(self._net, states)]
        before, *found = self.holdout.errors(nets, pose_net, title="choosing the student")
        self.looks += [(before, after) for after in found]
        means = [after.means() for after in found]
        name = deciding_measure(before, found[0]) or _deciding(means[0])
        # A little further on the way may cost another measure more than it may: then stop before, if that helps.
        allowed = [n for n, after in enumerate(found) if unopposed(before, after, self.config.p_value)]
        best = min(allowed or range(len(means)), key=lambda n: means[n][name]) if name is not None else 0
        module.averaged.load_state_dict(states[best])
        return choices[best]

    def _net(self, state: dict[str, Tensor]) -> DepthNet:
        net = deepcopy(self.start)
        net.load_state_dict(state)
        return net

    def _look(self, module: SelfDistillation) -> tuple[dict[str, float], dict[str, float]]:
        """The errors of the start and of the student."""
        # Copies on the CPU: there the held-out frames are, wherever the training runs.
        student, pose_net = deepcopy(module.averaged).cpu().eval(), deepcopy(module.pose_net).cpu().eval()
        # The start each time anew: as the pose network learns, other pairs of frames can be compared.
        before, after = self.holdout.errors([self.start, student], pose_net, _FRAMES)
        self.looks.append((before, after))
        first, found = before.means(), after.means()
        if (name := _deciding(found)) is not None:
            started = f" (started at {first[name]:.4f})" if name in first else ""
            _log.info("minute %.0f: held-out %s %.4f%s", module.elapsed / 60, NAMES[name], found[name], started)
        return first, found

    def _decide(self, trainer: lightning.Trainer, module: SelfDistillation, error: float, first: float | None) -> None:
        if error < self.best:
            self.best, self.waited = error, 0
            self.kept = {"minute": module.elapsed / 60, "student": _state(module.averaged)}
        elif module.progress > _SETTLED:
            self.waited += 1
        if first is not None and error > _DIVERGED * first:
            _log.warning("stopping: the held-out error is %.1f times that of the start", error / first)
            trainer.should_stop = True
        elif self.waited >= self.config.patience:
            _log.info("stopping early: no improvement in %d validations", self.waited)
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        looks = [tuple(vars(errors) for errors in pair) for pair in self.looks]
        return {"best": self.best, "waited": self.waited, "due": self._due, "kept": self.kept, "looks": looks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited, self._due, self.kept = (state[key] for key in ("best", "waited", "due", "kept"))
        self.looks = [(Errors(**before), Errors(**after)) for before, after in state["looks"]]


def _deciding(errors: dict[str, float]) -> str | None:
    return next((name for name in NAMES if name in errors), None)


def _state(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone() for name, tensor in net.state_dict().items()}


def _between(start: dict[str, Tensor], end: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights and statistics a share of the way from one network to another; what counts batches is left alone."""
    return {
        name: torch.lerp(start[name], value, share) if value.is_floating_point() else value
        for name, value in end.items()
    }
