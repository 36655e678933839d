"""Is one network better than another on the same frames, or is it luck?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DRAWS = 20_000
_BLOCK = 5  # neighbouring frames look alike: together they are one observation
_FEWEST_BLOCKS = 8


@dataclass(frozen=True)
class Paired:
    """Two sets of errors of the same frames, compared.

    Attributes:
        before, after: mean errors.
        gain: by how much the errors fell, relative to before; negative when they rose.
        p: probability of such a gain when neither network is better (one-sided).
        frames: how many were compared.
    """

    before: float
    after: float
    gain: float
    p: float
    frames: int

    def better(self, min_gain: float, p: float) -> bool:
        """Whether the gain is large enough to matter, and too large for luck."""
        return self.gain >= min_gain and self.p <= p

    def worse(self, max_loss: float, p: float) -> bool:
        """Whether it became worse by more than `max_loss`, and not by luck."""
        return self.gain < -max_loss and 1 - self.p <= p


def compare(
    before: Sequence[float],
    after: Sequence[float],
    seed: int = 0,
    rivals: Sequence[tuple[Sequence[float], Sequence[float]]] = (),
) -> Paired:
    """Paired sign-flip test on the logarithms of errors (Good 2005, "Permutation, Parametric and Bootstrap Tests").

    Args:
        before, after: positive errors of the same frames in order of time. Neighbours are averaged in blocks of up to
            five, as long as that leaves eight blocks.
        rivals: errors before and after, on these frames, of the others from which this one was chosen because it did
            best on them. The best of many looks good by luck too, so the gain is held against the largest that flipped
            signs give to any of them (Westfall and Young 1993, "Resampling-Based Multiple Testing", max T).

    Raises:
        ValueError: different lengths, no frame, or errors that are not positive and finite.
    """
    old, new = np.asarray(before, float), np.asarray(after, float)
    if old.shape != new.shape or not len(old):
        raise ValueError(f"need as many errors before as after, at least one; got {len(old)} and {len(new)}")
    if not (np.isfinite(old).all() and np.isfinite(new).all() and min(old.min(), new.min()) > 0):
        raise ValueError("errors must be positive and finite")
    block = max(1, min(_BLOCK, len(old) // _FEWEST_BLOCKS))
    change = np.log(old / new)
    changes = np.stack([change, *(np.log(np.asarray(a, float) / np.asarray(b, float)) for a, b in rivals)])
    means = _block_means(changes, block)
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, (_DRAWS, means.shape[1]), dtype=np.int8) * 2 - 1
    # The draw that was observed counts too, so that p is never 0; ties count, so that equal networks have p = 1.
    extreme = ((signs @ means.T).max(1) >= means[0].sum() - 1e-12).sum()
    return Paired(
        float(old.mean()), float(new.mean()), float(1 - new.mean() / old.mean()), float((extreme + 1) / (_DRAWS + 1)), len(old)
    )  # fmt: skip


def _block_means(values: NDArray[np.float64], block: int) -> NDArray[np.float64]:
    """`[K, N]` to `[K, N // block]`."""
    parts = np.array_split(values, max(1, values.shape[1] // block), axis=1)
    return np.stack([part.mean(1) for part in parts], axis=1)
