"""What one training step computed, by name."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ssmde_ros.errors import SsmdeError


@dataclass
class Step:
    """What one step computed.

    Attributes:
        terms: each term as the paper defines it, unweighted scalars; `weights` has the lambda of each.
        scalars: other numbers for the log: gates, shares, spreads.
        maps: `[B, C, H, W]` for pictures.
    """

    terms: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    scalars: dict[str, float | Tensor] = field(default_factory=dict)
    maps: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, value: Tensor, weight: float) -> None:
        self.terms[name], self.weights[name] = value, weight

    @property
    def total(self) -> Tensor:
        """The weighted sum.

        Raises:
            SsmdeError: no term at all, so that there is nothing to learn from.
        """
        if not self.terms:
            raise SsmdeError("every term of the loss is switched off in this step; set a weight under loss")
        return torch.stack([value * self.weights[name] for name, value in self.terms.items()]).sum()
