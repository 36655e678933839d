"""Loads weights in the background: the old ones keep running until the new ones have proven themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import CameraCalibration
from ssmde_ros.networks import WeightsInfo, check_depth_net
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime import DepthEstimator, EstimatorConfig
from ssmde_ros.runtime.consistency import unfit
from ssmde_ros.runtime.exported import is_exported
from ssmde_ros.runtime.precompile import precompile

Report = Callable[[str], None]
Answer = Callable[[bool, str], None]
"""Called once with whether new weights run, and a line with old and new identity or the reason."""


_WITNESS_EVERY = 0.5  # seconds


@dataclass(frozen=True)
class _Witness:
    """A frame and its depth by the weights in use, with the settings that made it."""

    image: NDArray[Any]
    calibration: CameraCalibration | None
    depth: NDArray[np.float32]
    config: EstimatorConfig


@dataclass(frozen=True)
class _Ready:
    """An estimator that waits for its turn."""

    estimator: DepthEstimator
    answer: Answer


@dataclass(frozen=True)
class _Request:
    weights: Path | None
    config: EstimatorConfig
    answer: Answer


class _StoppedError(Exception):
    """The node ends; nobody waits for an answer."""


class EstimatorLoader:
    """Builds estimators on a thread of its own, and swaps them between two frames.

    Attributes:
        current: the estimator in use; only the thread that calls `swap` changes it.
        problem: why the last load failed; empty after one that worked.
    """

    def __init__(self, info: Report, error: Report) -> None:
        self._info, self._error = info, error
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._ready: _Ready | None = None
        self._thread: threading.Thread | None = None
        self._next: _Request | None = None
        self._previous: DepthEstimator | None = None
        self._witness: _Witness | None = None
        self._witnessed = 0.0
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
            replaced, self._ready = self._ready, _Ready(previous, lambda *_: None)
        if replaced is not None:
            replaced.answer(False, "a rollback took its place")
        return previous.identity

    def saw(
        self,
        image: NDArray[Any],
        calibration: CameraCalibration | None,
        depth: NDArray[np.float32],
        config: EstimatorConfig,
    ) -> None:
        """Note a frame and its depth now and then: new weights are compared on it."""
        now = time.monotonic()
        if now - self._witnessed >= _WITNESS_EVERY:
            self._witnessed = now
            self._witness = _Witness(image, calibration, depth.copy(), config)

    def swap(self) -> None:
        """Between two frames: put a freshly loaded estimator to use."""
        with self._lock:
            ready, self._ready = self._ready, None
            if ready is None:
                return
            self._previous = self.current
        before = self.identity
        self.problem = ""
        self.current = ready.estimator
        ready.answer(True, f"running {ready.estimator.identity}, before that {before}")

    def stop(self) -> None:
        """Forget what is waiting, and give up what is compiled elsewhere."""
        self._stopping.set()
        with self._lock:
            self._next = None

    def join(self, timeout: float) -> None:
        """Wait for what is being read or compiled here: it cannot be given up.

        Args:
            timeout: seconds.
        """
        with self._lock:
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
                estimator = self._build(request)
                why = self._unfit(estimator)
            except _StoppedError:
                return
            except SsmdeError as error:
                self._fail(request, str(error), str(error))
                continue
            # An engine may fail in its own way (memory, driver); that must not end the loader silently.
            except Exception as error:
                what = f"{type(error).__name__}: {error}"
                self._fail(request, what, f"weights could not be loaded: {what}")
                continue
            if why:
                why = f"{estimator.identity}: {why}"
                self._fail(request, why, f"weights refused: {why}; still running {self.identity}")
                continue
            engine = estimator.engine
            self.problem = ""
            with self._lock:
                replaced, self._ready = self._ready, _Ready(estimator, request.answer)
            if replaced is not None:
                replaced.answer(False, "newer weights took their place")
            self._info(
                f"loaded {estimator.identity}, {estimator.identity.config.scale_kind} scale, "
                f"on {engine.name} {engine.device} {engine.precision}"
            )

    def _build(self, request: _Request) -> DepthEstimator:
        weights, config, witness = request.weights or default_weights(), request.config, self._witness
        if self.current is not None and not is_exported(weights):
            # Frames flow: what takes seconds of the interpreter happens in another one.
            info = check_depth_net(weights)
            sizes = [config.usual_size(info.config)]
            if witness is not None:
                sizes.append(config.size_for(witness.image.shape[1], witness.image.shape[0], info.config))
            precompile(info, [(height, width) for width, height in sizes], config.engine, self._stopping)
            if self._stopping.is_set():
                raise _StoppedError
        return DepthEstimator(weights, config)

    def _unfit(self, fresh: DepthEstimator) -> str:
        """Why new weights may not take over; here and not between two frames, for engines compile for each image size."""
        witness = self._witness
        if self.current is None or witness is None:
            return ""
        fresh.config = replace(witness.config, engine=fresh.config.engine)
        depth = fresh.estimate(witness.image, witness.calibration).depth
        if depth.shape != witness.depth.shape:  # a file for one size, published as it is
            depth = cv2.resize(depth, witness.depth.shape[::-1], interpolation=cv2.INTER_NEAREST)
        return unfit(witness.depth, depth)

    def _fail(self, request: _Request, problem: str, line: str) -> None:
        self.problem = problem
        self._error(line)
        request.answer(False, f"{problem}; still running {self.identity}")
