"""Loads weights in the background: the old ones keep running until the new ones have proven themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from ssmde_ros.errors import SsmdeError
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime import DepthEstimator, EstimatorConfig

Report = Callable[[str], None]


class EstimatorLoader:
    """Builds estimators on a thread of its own.

    Attributes:
        problem: why the last load failed; empty after one that worked.
    """

    def __init__(self, info: Report, error: Report) -> None:
        self._info, self._error = info, error
        self._lock = threading.Lock()
        self._ready: DepthEstimator | None = None
        self._thread: threading.Thread | None = None
        self._next: tuple[Path | None, EstimatorConfig] | None = None
        self.problem = ""

    def start(self, weights: Path | None, config: EstimatorConfig) -> None:
        """Load in the background; None is the shipped student. The last request wins."""
        with self._lock:
            self._next = (weights, config)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="load_weights", daemon=True)
                self._thread.start()

    def take(self) -> DepthEstimator | None:
        """A freshly loaded estimator, once."""
        with self._lock:
            ready, self._ready = self._ready, None
            return ready

    def stop(self, timeout: float) -> None:
        """Forget what is waiting and let a load under way finish."""
        with self._lock:
            self._next = None
            thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _work(self) -> None:
        while True:
            with self._lock:
                if self._next is None:
                    self._thread = None
                    return
                (weights, config), self._next = self._next, None
            try:
                estimator = DepthEstimator(weights or default_weights(), config)
            except SsmdeError as error:
                self.problem = str(error)
                self._error(f"{error}")
                continue
            # An engine may fail in its own way (memory, driver); that must not end the loader silently.
            except Exception as error:
                self.problem = f"{type(error).__name__}: {error}"
                self._error(f"weights could not be loaded: {self.problem}")
                continue
            engine = estimator.engine
            self.problem = ""
            with self._lock:
                self._ready = estimator
            self._info(
                f"loaded {estimator.identity}, {estimator.net.config.scale_kind} scale, "
                f"on {engine.name} {engine.device} {engine.precision}"
            )
