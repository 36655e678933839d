"""The decoder's last level computed at half the resolution: the same function, with wider and fewer operations.

A 3x3 convolution of a map equals a 3x3 convolution of its 2x2 blocks, each taken as one pixel of four times the channels
(sub-pixel convolution, Shi et al. 2016); where the map repeats every pixel of a smaller one, of the smaller one itself (Aitken
et al. 2017). At full resolution the level has few channels, of which processors and GPUs compute sixteen or more at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssmde_ros.networks.decoder import DisparityDecoder


class SubPixelDecoder(nn.Module):
    """The finest map of a `DisparityDecoder` that pads with zeros and has no dense skips, whose modules it shares.

    Raises:
        ValueError: the decoder is another.
    """

    def __init__(self, decoder: DisparityDecoder) -> None:
        super().__init__()
        if not has_sub_pixel_form(decoder):
            raise ValueError("sub-pixel form: need zero padding and no dense skips")
        self.decoder = decoder
        self.fuse = of_blocks(decoder.fuse[0].conv, repeated=True)  # type: ignore[arg-type]
        self.head = of_blocks(decoder.heads[0], repeated=False)  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor], scales: int = 1) -> list[Tensor]:
        """As `DisparityDecoder.forward` with `scales=1`, the only one there is."""
        x = self.decoder.reduce[0](self.decoder.decode(features, finest=1)[0])
        x = F.elu(self.fuse(x), inplace=True)
        return [torch.sigmoid(F.pixel_shuffle(self.head(x), 2))]


def has_sub_pixel_form(decoder: nn.Module) -> TypeGuard[DisparityDecoder]:
    """Whether a decoder is of the kind that `SubPixelDecoder` takes."""
    # A mirrored border is not the border of the mirrored blocks.
    return (
        isinstance(decoder, DisparityDecoder)
        and not len(decoder.dense)
        and all(conv.padding_mode == "zeros" for conv in decoder.modules() if isinstance(conv, nn.Conv2d))
    )


def faster_decoder(decoder: nn.Module) -> nn.Module:
    """The sub-pixel form of a decoder that has one, else the decoder itself."""
    return SubPixelDecoder(decoder) if has_sub_pixel_form(decoder) else decoder


def of_blocks(conv: nn.Conv2d, repeated: bool) -> nn.Conv2d:
    """The convolution that does to 2x2 blocks of pixels what `conv` does to pixels.

    Args:
        conv: 3x3, stride 1, padded with one zero, `[B, I, 2H, 2W]` to `[B, O, 2H, 2W]`.
        repeated: all pixels of a block are equal, and come as one.

    Returns:
        `[B, I, H, W]` if repeated, else `[B, 4I, H, W]`, to `[B, 4O, H, W]`, channels in the order of `F.pixel_shuffle`.
    """
    weight = conv.weight.detach()
    outputs, inputs = weight.shape[:2]
    blocks = weight.new_zeros(outputs, 2, 2, inputs, 2, 2, 3, 3)
    for row, column, down, right in product(range(2), range(2), range(3), range(3)):
        (block_down, from_row), (block_right, from_column) = divmod(row + down - 1, 2), divmod(column + right - 1, 2)
        blocks[:, row, column, :, from_row, from_column, block_down + 1, block_right + 1] = weight[:, :, down, right]
    kernel = blocks.sum((4, 5)) if repeated else blocks
    result = nn.Conv2d(inputs if repeated else 4 * inputs, 4 * outputs, 3, padding=1, bias=conv.bias is not None)
    result.weight = nn.Parameter(kernel.reshape(result.weight.shape), requires_grad=False)
    if conv.bias is not None:
        result.bias = nn.Parameter(conv.bias.detach().repeat_interleave(4), requires_grad=False)
    return result
