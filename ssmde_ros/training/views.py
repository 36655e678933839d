"""The target of a batch seen from its sources."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ssmde_ros.data.triplets import Batch
from ssmde_ros.geometry import View, look, sample


@dataclass(frozen=True)
class Views:
    """The target seen from each source with the student's depth.

    Attributes:
        views: one per source.
        own: depth `[B, 1, H, W]` that the student gives each source; empty where no term asks for it.
        misfit: the smallest `D_diff` over the sources that see the pixel, 0 where none does; no gradient.
    """

    views: list[View]
    own: list[Tensor]
    misfit: Tensor


def seen_from(depth: Tensor, motion: Tensor, batch: Batch) -> View:
    """The target seen from a source; what zooming and turning made up does not count as seen.

    Args:
        depth: of the target `[B, 1, H, W]`, metres.
        motion: `T_{t->s}` `[B, 4, 4]`.
    """
    view = look(depth, motion, batch.intrinsics)
    with torch.no_grad():
        shown = batch.inside & (sample(batch.inside.to(depth.dtype), view) > 0.99)
    return replace(view, in_view=view.in_view & shown)
