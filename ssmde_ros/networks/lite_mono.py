"""Lite-Mono (Zhang et al. 2023): three levels of dilated depth-wise convolutions and attention over channels.

Written from the paper and from the names and shapes in the published files; the authors' code was not opened, and no
published file has been run here. Attention and position code are those of XCiT (El-Nouby et al. 2021), the block around
them that of EdgeNeXt (Maaz et al. 2022). Shapes do not tell two things: how the image is pooled (here as in ESPNet, Mehta
et al. 2018), and the dilations, which depend on the size of the training (github.com/noahzn/Lite-Mono, issue 155).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssmde_ros.networks.config import Padding
from ssmde_ros.networks.decoder import ConvBlock

_EXPANSION = 6
_HEADS = 8
_FREQUENCIES = 32
_EPS = 1e-6  # of the layer norms


class Bottleneck(nn.Module):
    """Inverted bottleneck over channels, scaled: `gamma * W2 GELU(W1 x)`. `[..., C]`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.widen = nn.Linear(channels, _EXPANSION * channels)
        self.narrow = nn.Linear(_EXPANSION * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * self.narrow(F.gelu(self.widen(x)))


class DilatedBlock(nn.Module):
    """Dilated depth-wise convolution, batch norm and bottleneck with a skip (CDC, section 3.2). `[B, C, H, W]`."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(
            channels, channels, 3, padding=dilation, dilation=dilation, groups=channels, bias=False
        )
        self.batch_norm = nn.BatchNorm2d(channels)
        self.bottleneck = Bottleneck(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.batch_norm(self.depthwise(x)).permute(0, 2, 3, 1)
        return x + self.bottleneck(y).permute(0, 3, 1, 2)


class CrossCovarianceAttention(nn.Module):
    """Attention between channels instead of pixels, so that its cost grows with the image, not with its square.

    `softmax(tau K^T Q) V` with keys and queries of unit length along the pixels (El-Nouby 2021, equation 3).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(_HEADS, 1, 1))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, N, C]` to the same."""
        # [B, N, 3C] to three times [B, heads, C/heads, N]
        query, key, value = self.qkv(x).unflatten(2, (3, _HEADS, -1)).permute(2, 0, 3, 4, 1).unbind()
        weight = (F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).transpose(-2, -1)) * self.temperature
        return self.project((weight.softmax(-1) @ value).flatten(1, 2).transpose(1, 2))


class PositionCode(nn.Module):
    """Sines and cosines of row and column, projected to channels (XCiT)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(2 * _FREQUENCIES, channels, 1)
        steps = torch.div(torch.arange(_FREQUENCIES, dtype=torch.float32), 2, rounding_mode="floor")
        self.wavelength: Tensor
        self.register_buffer("wavelength", 10000 ** (2 * steps / _FREQUENCIES), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[1, C, H, W]` for features `[B, ., H, W]`."""
        height, width = x.shape[2:]

        def waves(line: Tensor) -> Tensor:
            # Counted on the features: a traced `arange` stays for ever on the device where it was traced.
            place = (line * 0 + 1).cumsum(0) * (2 * math.pi / (line.shape[0] + _EPS))
            phase = place[:, None] / self.wavelength
            return torch.stack([phase[:, 0::2].sin(), phase[:, 1::2].cos()], 2).flatten(1).T  # [frequencies, count]

        rows = waves(x[0, 0, :, 0])[:, :, None].expand(-1, height, width)
        columns = waves(x[0, 0, 0])[:, None].expand(-1, height, width)
        return self.project(torch.cat([rows, columns])[None])


class GlobalBlock(nn.Module):
    """Attention over channels, then a bottleneck, with a skip over both (LGFI, section 3.2). `[B, C, H, W]`."""

    def __init__(self, channels: int, position: bool) -> None:
        super().__init__()
        self.position = PositionCode(channels) if position else None
        self.attention_norm = nn.LayerNorm(channels, eps=_EPS)
        self.attention = CrossCovarianceAttention(channels)
        self.attention_gamma = nn.Parameter(torch.full((channels,), 1e-6))
        self.norm = nn.LayerNorm(channels, eps=_EPS)
        self.bottleneck = Bottleneck(channels)

    def forward(self, x: Tensor) -> Tensor:
        placed = x if self.position is None else x + self.position(x)
        pixels = placed.flatten(2).transpose(1, 2)
        pixels = pixels + self.attention_gamma * self.attention(self.attention_norm(pixels))
        return x + self.bottleneck(self.norm(pixels)).transpose(1, 2).reshape(x.shape)


def _stem_layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.GELU()
    )  # fmt: skip


class LiteMono(nn.Module):
    """The encoder: image `[B, 3, H, W]` to features at strides 4, 8 and 16 (figure 2 and table 1 of the paper)."""

    mean = (0.45,) * 3
    std = (0.225,) * 3
    channels: tuple[int, int, int] = (48, 80, 128)
    strides = (4, 8, 16)
    dilations: tuple[tuple[int, ...], ...] = ((1, 2, 3), (1, 2, 3), (1, 2, 3, 1, 2, 3, 2, 4, 6))

    def __init__(self) -> None:
        super().__init__()
        first = self.channels[0]
        self.stem = nn.Sequential(_stem_layer(3, first, 2), _stem_layer(first, first, 1), _stem_layer(first, first, 1))
        # Each reduction sees what entered the stage before and what left it, and the image at that size.
        seen = [first, *(2 * channels for channels in self.channels[:2])]
        self.reductions = nn.ModuleList(nn.Conv2d(seen[i] + 3, self.channels[i], 3, 2, 1, bias=False) for i in range(3))
        self.stages = nn.ModuleList(
            nn.Sequential(*(DilatedBlock(channels, d) for d in dilations), GlobalBlock(channels, position=i == 0))
            for i, (channels, dilations) in enumerate(zip(self.channels, self.dilations, strict=True))
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        image, seen, features = x, [self.stem(x)], []
        for reduction, stage in zip(self.reductions, self.stages, strict=True):
            image = F.avg_pool2d(image, 3, 2, 1)
            entering = reduction(torch.cat([*seen, image], 1))
            leaving = stage(entering)
            features.append(leaving)
            seen = [entering, leaving]
        return features


class LiteMonoSmall(LiteMono):
    """Three blocks fewer in the last stage."""

    dilations: tuple[tuple[int, ...], ...] = ((1, 2, 3), (1, 2, 3), (1, 2, 3, 2, 4, 6))


class LiteMonoTiny(LiteMonoSmall):
    """The same, narrower."""

    channels = (32, 64, 128)


class LiteMono8M(LiteMono):
    """Eight million parameters."""

    channels = (64, 128, 224)


def _widened(dilations: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """Those of networks trained at 1024x320."""
    return tuple(tuple({3: 5, 6: 10}.get(d, d) for d in stage) for stage in dilations)


class LiteMonoWide(LiteMono):
    """Trained at 1024x320."""

    dilations = _widened(LiteMono.dilations)


class LiteMonoSmallWide(LiteMonoSmall):
    """Trained at 1024x320."""

    dilations = _widened(LiteMonoSmall.dilations)


class LiteMonoTinyWide(LiteMonoTiny):
    """Trained at 1024x320."""

    dilations = _widened(LiteMonoTiny.dilations)


class LiteMono8MWide(LiteMono8M):
    """Trained at 1024x320."""

    dilations = _widened(LiteMono8M.dilations)


LITE_MONO: dict[str, type[LiteMono]] = {
    "lite_mono": LiteMono,
    "lite_mono_small": LiteMonoSmall,
    "lite_mono_tiny": LiteMonoTiny,
    "lite_mono_8m": LiteMono8M,
    "lite_mono_wide": LiteMonoWide,
    "lite_mono_small_wide": LiteMonoSmallWide,
    "lite_mono_tiny_wide": LiteMonoTinyWide,
    "lite_mono_8m_wide": LiteMono8MWide,
}


class LiteMonoDecoder(nn.Module):
    """Features at strides 4, 8, 16 to sigmoid disparity at strides 1, 2, 4 (section 3.3).

    Every head works at half the size of its map.

    Args:
        channels: encoder channels at strides 4, 8, 16.
        widths: decoder channels at strides 2, 4, 8.
        padding: of all 3x3 convolutions.
    """

    SCALES = 3

    def __init__(self, channels: Sequence[int], widths: Sequence[int], padding: Padding = "reflect") -> None:
        super().__init__()
        inputs, skips = [widths[1], widths[2], channels[2]], [0, *channels[:2]]
        self.reduce = nn.ModuleList(ConvBlock(inputs[i], widths[i], padding) for i in range(3))
        self.fuse = nn.ModuleList(ConvBlock(widths[i] + skips[i], widths[i], padding) for i in range(3))
        self.heads = nn.ModuleList(nn.Conv2d(width, 1, 3, padding=1, padding_mode=padding) for width in widths)

    def forward(self, features: Sequence[Tensor], scales: int = SCALES) -> list[Tensor]:
        """Disparity maps sigma in (0, 1).

        Args:
            features: `[B, C, H/s, W/s]` for s = 4, 8, 16.
            scales: how many heads to run, finest first.

        Returns:
            `scales` maps `[B, 1, H/s, W/s]`, s = 1, 2, 4.
        """
        x = features[2]
        outputs: list[Tensor] = []
        for level in range(2, -1, -1):
            x = _doubled(self.reduce[level](x))
            x = self.fuse[level](torch.cat([x, features[level - 1]], 1) if level > 0 else x)
            if level < scales:
                outputs.insert(0, torch.sigmoid(_doubled(self.heads[level](x))))
        return outputs


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
