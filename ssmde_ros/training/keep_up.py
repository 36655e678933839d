"""Validation while a fine-tune runs: stops it when it no longer gets better, and tells how it is doing."""

from __future__ import annotations

import logging
from copy import deepcopy
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from ssmde_ros.networks import DepthNet
from ssmde_ros.training.finetune_config import FineTuneConfig
from ssmde_ros.training.holdout import Holdout
from ssmde_ros.training.module import SelfDistillation
from ssmde_ros.training.verdict import NAMES

_log = logging.getLogger(__name__)

_FRAMES = 24  # held-out frames of a validation
_SETTLED = 0.5  # of the run that must be over before it may end early: before, the learning rate is still high
_DIVERGED = 1.5  # times the error at the start


class KeepUp(Callback):
    """Validates the averaged student on held-out frames.

    Args:
        start: the network that training began with.
    """

    def __init__(self, holdout: Holdout, start: DepthNet, config: FineTuneConfig) -> None:
        self.holdout, self.config = holdout, config
        self.start = deepcopy(start).eval()
        self.best, self.waited, self._due = float("inf"), 0, 60 * config.validate_every

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        assert isinstance(module, SelfDistillation)
        if module.elapsed < self._due:
            return
        self._due = module.elapsed + 60 * self.config.validate_every
        # Copies on the CPU: there the held-out frames are, wherever the training runs.
        student, pose_net = deepcopy(module.averaged).cpu().eval(), deepcopy(module.pose_net).cpu().eval()
        # The start each time anew: as the pose network learns, other pairs of frames can be compared.
        first, found = (e.means() for e in self.holdout.errors([self.start, student], pose_net, _FRAMES))
        for name, value in found.items():
            module.log(f"holdout/{name}", value)
        deciding = next((name for name in NAMES if name in found), None)
        if deciding is None:
            return
        started = f" (started at {first[deciding]:.4f})" if deciding in first else ""
        _log.info("minute %.0f: held-out %s %.4f%s", module.elapsed / 60, NAMES[deciding], found[deciding], started)
        self._decide(trainer, module, found[deciding], first.get(deciding))

    def _decide(self, trainer: lightning.Trainer, module: SelfDistillation, error: float, first: float | None) -> None:
        if error < self.best:
            self.best, self.waited = error, 0
        else:
            self.waited += 1
        if first is not None and error > _DIVERGED * first:
            _log.warning("stopping: the held-out error is %.1f times that of the start", error / first)
            trainer.should_stop = True
        elif self.waited >= self.config.patience and module.progress > _SETTLED:
            _log.info("stopping early: no improvement in %d validations", self.waited)
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited, "due": self._due}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited, self._due = state["best"], state["waited"], state["due"]
