"""What happens around the training step: the budget, and pictures for people."""

from __future__ import annotations

import logging
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from ssmde_ros.training.module import SelfDistillation
from ssmde_ros.training.step import Step

_log = logging.getLogger(__name__)

_COLLAPSED = 0.02  # standard deviation of log depth below which a picture is as good as flat
_UNSEEN = 0.02  # share of pixels with a photometric loss below which there is nothing to learn from


class StopAtBudget(Callback):
    """Ends the run at its wall-clock budget, and says in words when it learns nothing or collapses."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        assert isinstance(module, SelfDistillation)
        if module.progress >= 1:
            trainer.should_stop = True
        if module.last is not None:
            self._watch(module.last, trainer.global_step)

    def _watch(self, step: Step, number: int) -> None:
        spread = float(step.scalars["depth/spread"])
        if number > 50 and spread < _COLLAPSED:
            self._once(
                "collapse",
                f"step {number}: depth hardly varies (standard deviation of log depth {spread:.3f}); "
                "the model is collapsing, or it looks at a blank wall",
            )
        seen = float(step.scalars.get("photometric/seen", 1.0))
        if number > 20 and seen < _UNSEEN:
            self._once(
                "still",
                f"step {number}: only {100 * seen:.1f} % of the pixels move as a scene before a travelling camera would: "
                "does the camera stand still, or only turn? are the intrinsics right? try larger gaps",
            )

    def _once(self, key: str, text: str) -> None:
        if key not in self._said:
            self._said.add(key)
            _log.warning(text)


class Pictures(Callback):
    """Input, depth, teacher, masks and reprojection of the first sample, for TensorBoard."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        assert isinstance(module, SelfDistillation)
        due = trainer.global_step % self.every == 0
        if not due or module.last is None or not isinstance(trainer.logger, TensorBoardLogger):
            return
        for name, values in module.last.maps.items():
            trainer.logger.experiment.add_image(f"maps/{name}", shown(name, values[0]), trainer.global_step)


def shown(name: str, values: Tensor) -> Tensor:
    """A map `[C, H, W]` as a picture `[C, H, W]` in [0, 1]; depth as inverse depth, near is bright."""
    values = values.detach().float().cpu()
    if name in ("depth", "teacher"):
        values = 1 / values
        low, high = torch.quantile(values.flatten(), torch.tensor([0.02, 0.98]))
        values = (values - low) / (high - low).clamp(min=1e-9)
    elif name == "pseudo":
        values = (values - values.amin()) / (values.amax() - values.amin()).clamp(min=1e-9)
    return values.clamp(0, 1)
