"""Error against range: how far out a prediction can be trusted."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_CELL = 1e-3  # of log ratio: medians are right to 0.05 %, and no pixel has to be kept


@dataclass(frozen=True)
class RangeBin:
    """The pixels whose true range lies in [near, far), over all frames.

    Attributes:
        near, far: metres.
        pixels: how many there are.
        abs_rel, d1: over these pixels; None when there are none.
        bias: median of log(prediction / truth): positive is predicted too far. None when there are no pixels.
    """

    near: float
    far: float
    pixels: int
    abs_rel: float | None
    d1: float | None
    bias: float | None


def range_edges(min_depth: float, max_depth: float) -> NDArray[np.float64]:
    """Edges `[n + 1]` of logarithmic range bins, metres: two to the octave, cut at the ends.

    They stand at 1, 1.4, 2, 2.8, 4 ... m whatever the limits, so that recordings can be compared bin by bin.
    """
    halves = range(math.floor(2 * math.log2(min_depth)), math.ceil(2 * math.log2(max_depth)) + 1)
    between = [edge for k in halves if min_depth < (edge := 2.0 ** (k / 2)) < max_depth]
    return np.array([min_depth, *between, max_depth])


class RangeErrors:
    """Sums over pixels by range. Pixels are pooled over frames, each counted once.

    Args:
        min_depth, max_depth: truth and clamped predictions lie within, metres.
    """

    def __init__(self, min_depth: float, max_depth: float) -> None:
        self.edges = range_edges(min_depth, max_depth)
        self._bins = len(self.edges) - 1
        # Both depths lie in the range, hence so does their ratio.
        self._half = math.ceil(math.log(max_depth / min_depth) / _CELL) + 1
        self._abs_rel = np.zeros(self._bins)
        self._good = np.zeros(self._bins, np.int64)
        self._cells = np.zeros((self._bins, 2 * self._half + 1), np.int64)

    def add(self, prediction: NDArray[np.floating], truth: NDArray[np.floating]) -> None:
        """Count pixels: aligned and clamped `prediction` and `truth`, both `[N]` metres."""
        p, t = prediction.astype(np.float64), truth.astype(np.float64)
        which = np.clip(np.searchsorted(self.edges, t, side="right") - 1, 0, self._bins - 1)
        log_ratio = np.log(p / t)
        cell = np.clip(np.rint(log_ratio / _CELL).astype(np.int64) + self._half, 0, 2 * self._half)
        self._abs_rel += np.bincount(which, np.abs(p - t) / t, self._bins)
        self._good += np.bincount(which[np.exp(np.abs(log_ratio)) < 1.25], minlength=self._bins)
        flat = np.bincount(which * self._cells.shape[1] + cell, minlength=self._cells.size)
        self._cells += flat.reshape(self._cells.shape)

    def table(self) -> list[RangeBin]:
        """Bins from the nearest to the farthest that has pixels; those between them may be empty."""
        counts = self._cells.sum(1)
        bins = [
            RangeBin(
                float(near),
                float(far),
                int(count),
                float(self._abs_rel[i] / count) if count else None,
                float(self._good[i] / count) if count else None,
                self._median(i) if count else None,
            )
            for i, (near, far, count) in enumerate(zip(self.edges[:-1], self.edges[1:], counts, strict=True))
        ]
        inner = list(itertools.dropwhile(lambda bin_: not bin_.pixels, bins))
        return list(itertools.dropwhile(lambda bin_: not bin_.pixels, inner[::-1]))[::-1]

    def _median(self, index: int) -> float:
        below = self._cells[index].cumsum()
        cell = int(np.searchsorted(below, below[-1] / 2))
        return (cell - self._half) * _CELL
