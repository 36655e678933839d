"""Features of one picture with the style of another: what a network learns then holds for pictures it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn


def style(features: Tensor) -> Tensor:
    """Mean and deviation of each channel, without gradient: `[B, C, H, W]` -> `[B, 2, C]`."""
    features = features.detach()
    deviation = (features.var((2, 3), unbiased=False) + 1e-6).sqrt()
    return torch.stack([features.mean((2, 3)), deviation], 1)


def mix_style(features: Tensor, share: Tensor, other: Tensor) -> Tensor:
    """Replace the mean and deviation of each channel by a mixture with others (Zhou et al. 2021).

    Args:
        features: `[B, C, H, W]`.
        share: `[B]` in [0, 1], how much of its own statistics each sample keeps.
        other: `[B, 2, C]`, mean and deviation to mix them with.

    Returns:
        `[B, C, H, W]`. Statistics carry no gradient: only where things are is learned from.
    """
    own = style(features)
    share = share.reshape(-1, 1, 1)
    mean, deviation = own[..., None, None].unbind(1)
    new_mean, new_deviation = (share * own + (1 - share) * other)[..., None, None].unbind(1)
    return (features - mean) / deviation * new_deviation + new_mean


class StyleMixer:
    """Mixes styles after some layers of a network while it trains.

    Each sample takes the style of another of its batch or, once there are remembered styles, every other
    time one of those.

    Args:
        layers: whose output is mixed, each time anew.
        probability: that a batch is mixed at a layer; 0 never.
        concentration: of the Beta distribution that the shares come from; small mixes either hardly or wholly.
    """

    def __init__(self, layers: Sequence[nn.Module], probability: float, concentration: float = 0.3) -> None:
        self.active, self._recording, self._probability = False, False, probability
        self._shares = torch.distributions.Beta(concentration, concentration)
        self._styles: list[list[Tensor]] = [[] for _ in layers]
        for number, layer in enumerate(layers):
            layer.register_forward_hook(partial(self._after, number))

    @torch.no_grad()
    def remember(self, network: Callable[[Tensor], object], images: Tensor) -> None:
        """Keep the styles of pictures `[B, 3, H, W]` at every layer, which `network` runs through.

        They are those of the network as it is now; what it learns later does not change them.
        """
        self._recording = True
        network(images)
        self._recording = False

    def _after(self, number: int, _: nn.Module, __: tuple[Tensor, ...], features: Tensor) -> Tensor:
        if self._recording:
            self._styles[number] += style(features).unbind(0)
            return features
        if not self.active or torch.rand(()) >= self._probability:
            return features
        count, known = len(features), self._styles[number]
        other = style(features)[torch.randperm(count)]
        for sample in range(count if known else 0):
            if torch.rand(()) < 0.5:
                other[sample] = known[int(torch.randint(len(known), ()))]
        return mix_style(features, self._shares.sample((count,)).to(features), other)
