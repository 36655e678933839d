"""The drift monitor of the depth node: looks twice a second, and starts anew with new weights."""

from __future__ import annotations

import time

from ssmde_ros.runtime import DepthEstimator, DepthFrame
from ssmde_ros.runtime.drift import DriftMonitor

_INTERVAL = 0.5  # seconds


class DriftWatch:
    """Called by the worker after each frame, and by the report."""

    def __init__(self) -> None:
        self._identity, self._monitor, self._due = "", DriftMonitor({}), 0.0

    def look(self, estimator: DepthEstimator, frame: DepthFrame) -> None:
        """Look at a frame when the last look was half a second ago."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _INTERVAL
        if estimator.identity.digest != self._identity:
            self._identity = estimator.identity.digest
            known = estimator.identity.provenance.get("reference", {})
            self._monitor = DriftMonitor({name: (float(mean), float(spread)) for name, (mean, spread) in known.items()})
        self._monitor.observe(frame.image, frame.depth)

    @property
    def advice(self) -> str:
        """Why fine-tuning is advised; empty when it is not."""
        return self._monitor.advice()

    @property
    def score(self) -> str:
        """For diagnostics."""
        return f"{self._monitor.score():.2f}" if self._monitor.known else "unknown: the weights bring no reference"
