"""What a running fine-tune shows: progress, losses and pictures, handed from its thread to the node's."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import cv2
import lightning
import numpy as np
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray

from ssmde_ros.training.callbacks import shown
from ssmde_ros.training.module import SelfDistillation

_EVERY = 20  # steps between pictures
_COLORED = {"depth", "teacher", "pseudo"}


@dataclass(frozen=True)
class Snapshot:
    """How far a run is.

    Attributes:
        progress: in [0, 1].
        minutes: of training so far, and `left`, until it is over.
        losses: unweighted terms by name.
    """

    step: int = 0
    progress: float = 0.0
    minutes: float = 0.0
    left: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)

    def told(self) -> str:
        """In words."""
        return f"step {self.step}, {100 * self.progress:.0f} %, {self.left:.1f} minutes left"

    def facts(self) -> dict[str, object]:
        """For diagnostics."""
        losses = {f"loss/{name}": f"{value:.5f}" for name, value in self.losses.items()}
        return {"step": self.step, "minutes": f"{self.minutes:.2f}", "eta_minutes": f"{self.left:.2f}", **losses}


class TrainingMonitor(Callback):
    """Looks at every step."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._snapshot = Snapshot()
        self._fresh: dict[str, NDArray[np.uint8]] = {}

    def on_train_batch_end(self, trainer: lightning.Trainer, module: lightning.LightningModule, *_: Any) -> None:
        assert isinstance(module, SelfDistillation)
        last = module.last
        if last is None:
            return
        progress, minutes = module.progress, module.elapsed / 60
        left = minutes * (1 - progress) / progress if progress > 0 else 0.0
        losses = {name: float(value.detach()) for name, value in last.terms.items()}
        pictures = {}
        if trainer.global_step % _EVERY == 1:
            pictures = {name: _picture(name, values[0]) for name, values in last.maps.items()}
        with self._lock:
            self._snapshot = Snapshot(trainer.global_step, progress, minutes, left, losses)
            self._fresh |= pictures

    def snapshot(self) -> Snapshot:
        """The newest."""
        with self._lock:
            return self._snapshot

    def take_pictures(self) -> dict[str, NDArray[np.uint8]]:
        """Those that nobody has taken yet, by name, `[H, W, 3]` BGR."""
        with self._lock:
            fresh, self._fresh = self._fresh, {}
            return fresh


def _picture(name: str, values: Any) -> NDArray[np.uint8]:
    pixels = (shown(name, values.float()).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    if pixels.shape[2] == 3:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), np.uint8)
    if name in _COLORED:
        return np.asarray(cv2.applyColorMap(pixels, cv2.COLORMAP_TURBO), np.uint8)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), np.uint8)
