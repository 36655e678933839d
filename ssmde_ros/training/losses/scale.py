"""The scale of a depth that nothing else holds."""

from __future__ import annotations

from torch import Tensor


def mean_depth(depth: Tensor) -> Tensor:
    """Depth `[B]` whose inverse is the mean inverse depth of a map `[B, 1, H, W]`: the harmonic mean."""
    return 1 / (1 / depth).mean((1, 2, 3))


def scale_loss(depth: Tensor, start: float) -> Tensor:
    """`log(mean 1/D over the batch * D_0)^2`: the student's scale stays where it began.

    One camera alone does not tell how large the world is, so depth and motion may shrink or grow together for ever, and
    what ends it is the range of the network, where all depths are one. Over the batch, and not image by image: a view
    along a corridor is deeper than one of its wall.

    Args:
        depth: `[B, 1, H, W]`.
        start: D_0, harmonic mean of the depth that the student gave at first, in the same units.
    """
    return ((1 / depth).mean() * start).log().square()
