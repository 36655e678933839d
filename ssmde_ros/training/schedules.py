"""Schedules as indexable objects: `schedule[t]` is the value at t, a pure function, so that resuming needs no state."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Forgetting:
    """The forgetting factor: `lambda(e) = max(floor, lambda_0 gamma^e)`, e the fractional epoch.

    Attributes:
        start: lambda_0, at least 0.
        gamma: in (0, 1]; 1 never forgets.
        floor: lower bound, at most `start`.

    Raises:
        ValueError: a value out of range.
    """

    start: float
    gamma: float = 1.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if self.start < 0 or not 0 < self.gamma <= 1 or not self.floor >= 0:
            raise ValueError(f"need start >= 0, 0 < gamma <= 1, floor >= 0, got {self}")

    def __getitem__(self, epoch: float) -> float:
        return max(min(self.floor, self.start), self.start * self.gamma**epoch)


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up, a flat part, then a cosine to `end`, over progress in [0, 1]; a factor on the learning rate.

    Attributes:
        warmup: share of the run spent rising from zero.
        flat: share of the run at which the descent starts, at least `warmup`.
        end: factor at the end.
    """

    warmup: float = 0.03
    flat: float = 0.3
    end: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.warmup <= self.flat < 1 or not 0 <= self.end <= 1:
            raise ValueError(f"need 0 <= warmup <= flat < 1 and end in [0, 1], got {self}")

    def __getitem__(self, progress: float) -> float:
        progress = min(max(progress, 0.0), 1.0)
        if progress < self.warmup:
            return progress / self.warmup
        if progress < self.flat:
            return 1.0
        turned = (progress - self.flat) / (1 - self.flat)
        return self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * turned))


@dataclass(frozen=True)
class Ramp:
    """0 before `begin`, then rising linearly over `length` to `value`; for terms that need a teacher first.

    Attributes:
        value: final value.
        begin, length: in epochs.
    """

    value: float
    begin: float = 0.0
    length: float = 0.0

    def __getitem__(self, epoch: float) -> float:
        if epoch < self.begin:
            return 0.0
        return self.value * min(1.0, (epoch - self.begin) / self.length) if self.length > 0 else self.value
