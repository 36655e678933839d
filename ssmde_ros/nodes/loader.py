"""Loads weights in the background: the old ones keep running until the new ones have proven themselves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import CameraCalibration
from ssmde_ros.networks import WeightsInfo
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime import DepthEstimator, EstimatorConfig
from ssmde_ros.runtime.consistency import unfit

Report = Callable[[str], None]
Answer = Callable[[bool, str], None]
"""Called once with whether new weights run, and a line with old and new identity or the reason."""


Probe = Callable[[], tuple[NDArray[Any] | None, CameraCalibration | None]]
"""The newest frame and its calibration, None where there is none yet."""


@dataclass(frozen=True)
class _Ready:
    """An estimator that waits for its turn; one that ran before need not prove itself again."""

    estimator: DepthEstimator
    answer: Answer
    proven: bool = False


@dataclass(frozen=True)
class _Request:
    weights: Path | None
    config: EstimatorConfig
    answer: Answer


class EstimatorLoader:
    """Builds estimators on a thread of its own, and swaps them between two frames.

    Attributes:
        current: the estimator in use; only the thread that calls `swap` changes it.
        problem: why the last load failed; empty after one that worked.
    """

    def __init__(self, info: Report, error: Report, probe: Probe = lambda: (None, None)) -> None:
        self._info, self._error, self._probe = info, error, probe
        self._lock = threading.Lock()
        self._ready: _Ready | None = None
        self._thread: threading.Thread | None = None
        self._next: _Request | None = None
        self._previous: DepthEstimator | None = None
        self.current: DepthEstimator | None = None
        self.problem = ""

    @property
    def identity(self) -> str:
        """Of the weights in use."""
        return str(self.current.identity) if self.current is not None else "none"

    def start(self, weights: Path | None, config: EstimatorConfig, answer: Answer = lambda *_: None) -> None:
        """Load in the background; None is the shipped student. The last request wins."""
        with self._lock:
            replaced, self._next = self._next, _Request(weights, config, answer)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="load_weights", daemon=True)
                self._thread.start()
        if replaced is not None:
            replaced.answer(False, "a newer request took its place")

    def rollback(self) -> WeightsInfo | None:
        """Go back to the estimator that ran before, at the next swap.

        Returns:
            Its identity; None when there is none.
        """
        with self._lock:
            previous, self._previous = self._previous, None
            if previous is None:
                return None
            replaced, self._ready = self._ready, _Ready(previous, lambda *_: None, proven=True)
        if replaced is not None:
            replaced.answer(False, "a rollback took its place")
        return previous.identity

    def swap(self, image: NDArray[Any] | None, calibration: CameraCalibration | None) -> None:
        """Between two frames: put a freshly loaded estimator to use if it is fit to take over.

        Args:
            image, calibration: the newest frame, on which old and new are compared; None compares nothing.
        """
        with self._lock:
            ready, self._ready = self._ready, None
        if ready is None:
            return
        fresh, answer = ready.estimator, ready.answer
        old, before = self.current, self.identity
        if old is not None and image is not None and not ready.proven:
            # The same sizes and scale, whatever has been set since the fresh one was asked for.
            fresh.config = replace(old.config, engine=fresh.config.engine)
            # What an engine may raise on a frame it has not seen is as good a reason to keep the old one.
            try:
                why = unfit(old.estimate(image, calibration).depth, fresh.estimate(image, calibration).depth)
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
            if why:
                self.problem = f"{fresh.identity}: {why}"
                self._error(f"weights refused: {self.problem}; still running {before}")
                answer(False, f"{self.problem}; still running {before}")
                return
        self.problem = ""
        with self._lock:
            self._previous = old
        self.current = fresh
        answer(True, f"running {fresh.identity}, before that {before}")

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
                request, self._next = self._next, None
            try:
                estimator = DepthEstimator(request.weights or default_weights(), request.config)
                image, calibration = self._probe()
                if image is not None:
                    # Engines compile for each image size: here, not between two frames.
                    estimator.estimate(image, calibration)
            except SsmdeError as error:
                self._fail(request, str(error), str(error))
                continue
            # An engine may fail in its own way (memory, driver); that must not end the loader silently.
            except Exception as error:
                what = f"{type(error).__name__}: {error}"
                self._fail(request, what, f"weights could not be loaded: {what}")
                continue
            engine = estimator.engine
            self.problem = ""
            with self._lock:
                replaced, self._ready = self._ready, _Ready(estimator, request.answer)
            if replaced is not None:
                replaced.answer(False, "newer weights took their place")
            self._info(
                f"loaded {estimator.identity}, {estimator.net.config.scale_kind} scale, "
                f"on {engine.name} {engine.device} {engine.precision}"
            )

    def _fail(self, request: _Request, problem: str, line: str) -> None:
        self.problem = problem
        self._error(line)
        request.answer(False, f"{problem}; still running {self.identity}")
