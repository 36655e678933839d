"""The multi-scale disparity decoder (in the manner of Godard et al. 2019), narrow enough to run live."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvBlock(nn.Module):
    """3x3 convolution and ELU. `[B, C, H, W]`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        # Zero padding: engines fuse it into the convolution, reflection they do not.
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(self.conv(x), inplace=True)


class DisparityDecoder(nn.Module):
    """Features at strides 2..32 to sigmoid disparity at strides 1, 2, 4 and 8.

    Args:
        channels: encoder channels at strides 2, 4, 8, 16, 32.
        widths: decoder channels at strides 1, 2, 4, 8, 16.
    """

    SCALES = 4

    def __init__(self, channels: Sequence[int], widths: Sequence[int]) -> None:
        super().__init__()
        if len(channels) != 5 or len(widths) != 5 or min(widths) < 1:
            raise ValueError(f"need five encoder and five positive decoder widths, got {channels} and {widths}")
        inputs = [widths[1], widths[2], widths[3], widths[4], channels[4]]
        skips = [0, *channels[:4]]
        self.reduce = nn.ModuleList(ConvBlock(inputs[i], widths[i]) for i in range(5))
        self.fuse = nn.ModuleList(ConvBlock(widths[i] + skips[i], widths[i]) for i in range(5))
        self.heads = nn.ModuleList(nn.Conv2d(widths[i], 1, 3, padding=1) for i in range(self.SCALES))

    def forward(self, features: Sequence[Tensor], scales: int = SCALES) -> list[Tensor]:
        """Disparity maps sigma in (0, 1).

        Args:
            features: `[B, C, H/s, W/s]` for s = 2, 4, 8, 16, 32.
            scales: how many heads to run, finest first; live inference asks for 1.

        Returns:
            `scales` maps `[B, 1, H/s, W/s]`, s = 1, 2, 4, 8.
        """
        x = features[4]
        outputs: list[Tensor] = []
        for level in range(4, -1, -1):
            x = F.interpolate(self.reduce[level](x), scale_factor=2.0, mode="nearest")
            if level > 0:
                x = torch.cat([x, features[level - 1]], 1)
            x = self.fuse[level](x)
            if level < scales:
                outputs.insert(0, torch.sigmoid(self.heads[level](x)))
        return outputs
