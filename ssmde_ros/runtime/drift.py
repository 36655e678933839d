"""Does the camera still see what the weights were trained on? A few numbers per frame against those of the training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssmde_ros.networks.reference import depth_thumbnail, describe

STATISTICS: dict[str, str] = {
    "brightness": "the images are {direction} than those it was trained on",
    "contrast": "the images have {direction} contrast than those it was trained on",
    "colorfulness": "the colors are {direction} than those it was trained on",
    "detail": "the images show {direction} detail than those it was trained on",
    "depth_spread": "depth varies {direction} than on what it was trained on",
    "flicker": "depth flickers {direction} than on what it was trained on",
}
"""What is watched, and what a departure means in words."""

_WORDS = {
    "brightness": ("darker", "brighter"),
    "contrast": ("less", "more"),
    "colorfulness": ("paler", "stronger"),
    "detail": ("less", "more"),
    "depth_spread": ("less", "more"),
    "flicker": ("less", "more"),
}
_LEAST_SPREAD = {
    "brightness": 12.0,
    "contrast": 8.0,
    "colorfulness": 6.0,
    "detail": 0.35,
    "depth_spread": 0.1,
    "flicker": 0.02,
}
_ONE_SIDED = {"flicker"}  # depth that flickers less is no reason to worry
_LIMIT = 3.0  # spreads of the training frames
_MEMORY = 0.05  # weight of a new observation; with two a second, about ten seconds
_FEWEST = 20  # observations before anything is said


@dataclass
class DriftMonitor:
    """Watches frames against a reference.

    Attributes:
        known: mean and spread of each number over the frames of the training; empty for weights that bring none.
    """

    known: dict[str, tuple[float, float]]

    def __post_init__(self) -> None:
        self._seen: dict[str, float] = {}
        self._count = 0
        self._before: NDArray[np.float32] | None = None

    def observe(self, image: NDArray[np.uint8], depth: NDArray[np.floating]) -> None:
        """Look at one frame; a tenth of a millisecond."""
        if not self.known:
            return
        for name, value in describe(image, depth, self._before).items():
            old = self._seen.get(name)
            self._seen[name] = value if old is None else old + _MEMORY * (value - old)
        self._before = depth_thumbnail(depth)
        self._count += 1

    def score(self) -> float:
        """The largest departure in spreads of the training frames; 0 while little was seen."""
        return max((abs(away) for away in self._departures().values()), default=0.0)

    def _departures(self) -> dict[str, float]:
        if self._count < _FEWEST:
            return {}
        found = {}
        for name, (mean, spread) in self.known.items():
            if name in self._seen and name in _LEAST_SPREAD:
                away = (self._seen[name] - mean) / max(spread, _LEAST_SPREAD[name])
                found[name] = max(away, 0.0) if name in _ONE_SIDED else away
        return found

    def advice(self) -> str:
        """Why fine-tuning is advised; empty when it is not."""
        reasons = []
        for name, away in self._departures().items():
            if abs(away) > _LIMIT:
                direction = _WORDS[name][away > 0]
                mean, _ = self.known[name]
                told = STATISTICS[name].format(direction=direction)
                reasons.append(f"{told} ({name} {self._seen[name]:.1f}, there {mean:.1f})")
        return f"fine-tuning advised: {'; '.join(reasons)}" if reasons else ""
