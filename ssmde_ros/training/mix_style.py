"""Features of one picture with the style of another: what a network learns then holds for pictures it has not seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def mix_style(features: Tensor, share: Tensor, order: Tensor) -> Tensor:
    """Replace the mean and deviation of each channel by a mixture with those of another sample (Zhou et al. 2021).

    Args:
        features: `[B, C, H, W]`.
        share: `[B]` in [0, 1], how much of its own statistics each sample keeps.
        order: `[B]` int64, whose statistics it is mixed with.

    Returns:
        `[B, C, H, W]`. Statistics carry no gradient: only where things are is learned from.
    """
    mean = features.mean((2, 3), keepdim=True).detach()
    deviation = (features.var((2, 3), keepdim=True, unbiased=False) + 1e-6).sqrt().detach()
    share = share.reshape(-1, 1, 1, 1)
    other_mean = share * mean + (1 - share) * mean[order]
    other_deviation = share * deviation + (1 - share) * deviation[order]
    return (features - mean) / deviation * other_deviation + other_mean


class StyleMixer:
    """Mixes styles after some layers of a network while it trains.

    Args:
        layers: whose output is mixed, each time anew.
        probability: that a batch is mixed at a layer; 0 never.
        concentration: of the Beta distribution that the shares come from; small mixes either hardly or wholly.
    """

    def __init__(self, layers: Sequence[nn.Module], probability: float, concentration: float = 0.3) -> None:
        self.active, self._probability = False, probability
        self._shares = torch.distributions.Beta(concentration, concentration)
        for layer in layers:
            layer.register_forward_hook(self._mix)

    def _mix(self, _: nn.Module, __: tuple[Tensor, ...], features: Tensor) -> Tensor:
        if not self.active or torch.rand(()) >= self._probability:
            return features
        count = len(features)
        return mix_style(features, self._shares.sample((count,)).to(features), torch.randperm(count))
