"""Signals while a training runs: the first one finishes the step and its checkpoint, the second one kills."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from ssmde_ros.errors import SsmdeError
from ssmde_ros.training.module import SelfDistillation

_SIGNALS = (int(signal.SIGTERM), int(signal.SIGINT))
_DOZE = 0.1  # seconds


class RunInterruptedError(SsmdeError):
    """The run was asked to stop; what it had to keep is in its checkpoint."""


class Interruption(Callback):
    """Stops at the end of a step when asked to, with a checkpoint; pauses between two steps.

    Attributes:
        checkpoint: file to write; whoever trains sets it.
        paused: while set, no step begins.
    """

    def __init__(self) -> None:
        self.checkpoint, self.asked, self.paused = Path("last.ckpt"), "", False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen to SIGTERM and SIGINT; only the main thread can, elsewhere call `ask`."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _SIGNALS}

        def hear(number: int, _: Any) -> None:
            self.ask(signal.Signals(number).name)
            signal.signal(number, before[number])

        for number in _SIGNALS:
            signal.signal(number, hear)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def ask(self, why: str) -> None:
        """Stop after the step under way."""
        self.asked = why

    def proceed(self) -> None:
        """Before there is anything to keep, stop right here when asked to.

        Raises:
            RunInterruptedError: asked to stop.
        """
        if self.asked:
            raise RunInterruptedError(f"stopped by {self.asked} before the training began; the same command starts it")

    def on_train_batch_start(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        while self.paused and not self.asked:
            time.sleep(_DOZE)
            if isinstance(module, SelfDistillation):
                module.stop_clock()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if self.asked:
            trainer.save_checkpoint(self.checkpoint)
            raise RunInterruptedError(
                f"stopped by {self.asked} at step {trainer.global_step}; the same command goes on from there"
            )
