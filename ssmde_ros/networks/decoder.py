"""The multi-scale disparity decoder (in the manner of Godard et al. 2019), narrow enough to run live."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssmde_ros.networks.config import Padding


class ConvBlock(nn.Module):
    """3x3 convolution and ELU. `[B, C, H, W]`."""

    def __init__(self, inputs: int, outputs: int, padding: Padding = "zeros") -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode=padding)

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(self.conv(x), inplace=True)


class DenseSkip(nn.Module):
    """What one decoder level gets from all deeper ones (in the manner of Xiang 2024).

    Each source is squeezed by a 1x1 convolution at its own size, then up-sampled and summed: the same function as
    up-sampling, concatenating and squeezing, at a fraction of the cost.

    Args:
        sources: channels of every source.
        outputs: channels of the sum.
    """

    def __init__(self, sources: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.ModuleList(nn.Conv2d(channels, outputs, 1, bias=False) for channels in sources)

    def forward(self, sources: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """`[B, C, h, w]` of each source to one `[B, outputs, *size]`."""
        parts = [squeeze(source) for squeeze, source in zip(self.squeeze, sources, strict=True)]
        total = F.interpolate(parts[0], tuple(size), mode="nearest")
        for part in parts[1:]:
            total = total + F.interpolate(part, tuple(size), mode="nearest")
        return total


class DisparityDecoder(nn.Module):
    """Features at strides 2..32 to sigmoid disparity at strides 1, 2, 4 and 8.

    Args:
        channels: encoder channels at strides 2, 4, 8, 16, 32.
        widths: decoder channels at strides 1, 2, 4, 8, 16.
        dense_skips: every level also sees the features of all deeper encoder and decoder levels, so that fine levels
            know the coarse context. Level 4 has nothing deeper than its own input.
        padding: of all 3x3 convolutions.
    """

    SCALES = 4

    def __init__(
        self, channels: Sequence[int], widths: Sequence[int], dense_skips: bool = False, padding: Padding = "zeros"
    ) -> None:
        super().__init__()
        if len(channels) != 5 or len(widths) != 5 or min(widths) < 1:
            raise ValueError(f"need five encoder and five positive decoder widths, got {channels} and {widths}")
        inputs = [widths[1], widths[2], widths[3], widths[4], channels[4]]
        skips = [0, *channels[:4]]
        self.reduce = nn.ModuleList(ConvBlock(inputs[i], widths[i], padding) for i in range(5))
        # Of the decoder, the next deeper level is what the level starts from anyway.
        levels = range(4) if dense_skips else ()
        self.dense = nn.ModuleList(DenseSkip([*channels[i:], *widths[i + 2 :]], widths[i]) for i in levels)
        seen = [widths[i] * (2 if i < len(self.dense) else 1) for i in range(5)]
        self.fuse = nn.ModuleList(ConvBlock(seen[i] + skips[i], widths[i], padding) for i in range(5))
        self.heads = nn.ModuleList(
            nn.Conv2d(widths[i], 1, 3, padding=1, padding_mode=padding) for i in range(self.SCALES)
        )

    def forward(self, features: Sequence[Tensor], scales: int = SCALES) -> list[Tensor]:
        """Disparity maps sigma in (0, 1).

        Args:
            features: `[B, C, H/s, W/s]` for s = 2, 4, 8, 16, 32.
            scales: how many heads to run, finest first; live inference asks for 1.

        Returns:
            `scales` maps `[B, 1, H/s, W/s]`, s = 1, 2, 4, 8.
        """
        decoded = self.decode(features)
        return [torch.sigmoid(self.heads[level](decoded[level])) for level in range(scales)]

    def decode(self, features: Sequence[Tensor], finest: int = 0) -> list[Tensor]:
        """What the heads look at.

        Args:
            features: as in `forward`.
            finest: the last level to decode, 0..4.

        Returns:
            `[B, widths[i], H/s, W/s]` for the levels i = finest..4, s = 2^i.
        """
        x = features[4]
        decoded: list[Tensor] = []  # finest first
        for level in range(4, finest - 1, -1):
            x = F.interpolate(self.reduce[level](x), scale_factor=2.0, mode="nearest")
            parts = [x]
            if level > 0:
                parts.append(features[level - 1])
            if level < len(self.dense):
                parts.append(self.dense[level]([*features[level:], *decoded[1:]], x.shape[-2:]))
            x = self.fuse[level](torch.cat(parts, 1) if len(parts) > 1 else x)
            decoded.insert(0, x)
        return decoded
