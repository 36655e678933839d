"""Are new weights fit to take over from old ones? Compared on one image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FLATTEST = 0.03  # standard deviation of log depth; a network that says this of any scene says nothing
_OLD_STRUCTURE = 0.1  # of the old network's depth, below which the scene itself is flat and proves nothing
_LEAST_AGREEMENT = 0.3  # rank correlation between old and new


def unfit(old: NDArray[np.floating], new: NDArray[np.floating]) -> str:
    """Why new weights must not take over; empty when they may.

    Scale and shift are free: a fine-tune may have changed the unit. The order of near and far is not.

    Args:
        old, new: depth of the same image by either network, `[h, w]`, as large or not; positive, not finite
            where unknown.
    """
    if old.shape != new.shape:
        return f"depth of {new.shape[1]}x{new.shape[0]} pixels where the old weights give {old.shape[1]}x{old.shape[0]}"
    known = np.isfinite(old) & np.isfinite(new) & (old > 0) & (new > 0)
    if known.mean() < 0.5 * np.isfinite(old).mean() or known.sum() < 16:
        return "depth at fewer than half of the pixels that the old weights see"
    a, b = np.log(old[known][::7]), np.log(new[known][::7])
    if a.std() < _OLD_STRUCTURE:
        return ""
    if b.std() < _FLATTEST:
        return f"depth is flat (standard deviation of log depth {b.std():.3f}, the old weights' {a.std():.3f})"
    agreement = rank_correlation(a, b)
    if agreement < _LEAST_AGREEMENT:
        return f"depth has nothing in common with that of the old weights (rank correlation {agreement:.2f})"
    return ""


def rank_correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """Spearman's rank correlation, ties broken by order."""
    ranks = [np.argsort(np.argsort(x, kind="stable"), kind="stable").astype(float) for x in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
