"""How far a run is, on the terminal: it ends by steps or by the clock, whichever comes first, and so does the bar."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from ssmde_ros.training.module import SelfDistillation

_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} < {remaining}{postfix}"


class BudgetBar(ProgressBar):
    """Share of the budget that is spent, steps so far, loss, and the time that is left."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: tqdm[Any] | None = None

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        assert isinstance(module, SelfDistillation)
        # A resumed run starts where it stopped, and the time that is left is told by the rest alone.
        if self._enabled and trainer.is_global_zero:
            self._bar = tqdm(total=1.0, initial=module.progress, desc="training", bar_format=_FORMAT)

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        assert isinstance(module, SelfDistillation)
        if self._bar is None or module.last is None:
            return
        self._bar.set_postfix(step=trainer.global_step, loss=f"{module.last.total.item():.3f}", refresh=False)
        self._bar.update(module.progress - self._bar.n)

    def teardown(self, trainer: lightning.Trainer, module: lightning.LightningModule, stage: str) -> None:
        self._close()

    def on_exception(self, trainer: lightning.Trainer, module: lightning.LightningModule, _: BaseException) -> None:
        self._close()  # so that what is said of it comes after the bar

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
