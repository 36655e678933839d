"""What the node knows about itself, as `diagnostic_msgs` for `/diagnostics`."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping

import cv2
import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from numpy.typing import NDArray

WINDOW = 300  # frames that percentiles are taken over
_FLAT = 3.0  # grey levels of contrast below which a picture shows nothing
_MANY = 3  # images in a row that gave no depth until that is worth a warning; one torn frame is not
_STALE = 2.0  # seconds without an image until that is worth a warning


class Health:
    """Counts, times and the last thing that went wrong. Called from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self.frames_in = self.frames_out = self.undecodable = 0
            self._refused: tuple[int, str] = (0, "")
            self._arrivals: deque[float] = deque(maxlen=WINDOW)
            self._departures: deque[float] = deque(maxlen=WINDOW)
            self._times: dict[str, deque[float]] = {}
            self._picture: tuple[float, float] | None = None

    def arrived(self) -> None:
        """An image came in."""
        with self._lock:
            self.frames_in += 1
            self._arrivals.append(time.monotonic())

    def failed(self, why: str) -> None:
        """An image gave no depth."""
        with self._lock:
            self.undecodable += 1
            self._refused = (self._refused[0] + 1, why)

    def published(self, latency_ms: float, stages_ms: Mapping[str, float], image: NDArray[np.uint8]) -> None:
        """A depth image went out: milliseconds from receipt to publication, and by stage."""
        # Every sixteenth row and column tells light from dark and something from nothing.
        mean, deviation = cv2.meanStdDev(np.ascontiguousarray(image[::16, ::16]))
        with self._lock:
            self.frames_out += 1
            self._refused = (0, "")
            self._departures.append(time.monotonic())
            for name, value in {"latency": latency_ms, **stages_ms}.items():
                self._times.setdefault(name, deque(maxlen=WINDOW)).append(value)
            self._picture = (float(mean.mean()), float(deviation.max()))

    def status(
        self, facts: Mapping[str, object], dropped: int, problems: list[str], fatal: list[str], expecting: bool
    ) -> DiagnosticStatus:
        """One status.

        Args:
            facts: what to report besides the statistics.
            dropped: frames overwritten by newer ones.
            problems, fatal: lines that make it a warning or an error.
            expecting: whether silence on the image topic is worth a warning.
        """
        with self._lock:
            values: dict[str, object] = {
                "frames_in": self.frames_in,
                "frames_out": self.frames_out,
                "frames_dropped": dropped,
                "frames_undecodable": self.undecodable,
                "rate_in_hz": f"{_rate(self._arrivals):.2f}",
                "rate_out_hz": f"{_rate(self._departures):.2f}",
            }
            for name, times in self._times.items():
                p50, p95 = np.percentile(times, [50, 95])
                values |= {f"{name}_ms_p50": f"{p50:.2f}", f"{name}_ms_p95": f"{p95:.2f}"}
            silent = time.monotonic() - self._arrivals[-1] if self._arrivals else float("inf")
            picture, (refused, why) = self._picture, self._refused
        problems = list(problems)
        if expecting and silent > _STALE:
            problems.append("no image received yet" if silent == float("inf") else f"no image for {silent:.0f} seconds")
        if refused >= _MANY:
            problems.append(f"no depth of the last {refused} images: {why}")
        if picture is not None:
            values |= {"image_mean": f"{picture[0]:.1f}", "image_contrast": f"{picture[1]:.1f}"}
            if picture[1] < _FLAT:
                problems.append("the image is flat: is the lens covered, or the exposure off?")
        level = DiagnosticStatus.ERROR if fatal else DiagnosticStatus.WARN if problems else DiagnosticStatus.OK
        message = "; ".join([*fatal, *problems]) or "depth is flowing"
        pairs = [KeyValue(key=key, value=str(value)) for key, value in {**facts, **values}.items()]
        return DiagnosticStatus(level=level, name="ssmde_ros: depth", message=message, values=pairs)


def _rate(times: deque[float]) -> float:
    """Mean rate in Hz over the last five seconds, 0 when silent."""
    now = time.monotonic()
    recent = [moment for moment in times if now - moment < 5.0]
    return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 1 and recent[-1] > recent[0] else 0.0
