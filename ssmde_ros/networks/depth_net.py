"""The depth network f: image to inverse depth."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ssmde_ros.networks.config import DepthNetConfig
from ssmde_ros.networks.decoder import DisparityDecoder
from ssmde_ros.networks.encoders import ENCODERS, imagenet_state
from ssmde_ros.networks.lite_mono import LiteMono, LiteMonoDecoder

_GREY = ((0.45,) * 3, (0.225,) * 3)  # mean and deviation of all channels, in monodepth2 and what descends from it


def disparity_to_depth(sigma: Tensor, min_depth: float, max_depth: float) -> Tensor:
    """Depth in metres from a sigmoid map: `1/D = 1/D_max + (1/D_min - 1/D_max) sigma` (Godard 2019).

    Args:
        sigma: any shape, in [0, 1].

    Returns:
        Depth of the same shape, in [min_depth, max_depth].
    """
    far, near = 1 / max_depth, 1 / min_depth
    return 1 / (far + (near - far) * sigma)


def depth_to_disparity(depth: float, min_depth: float, max_depth: float) -> float:
    """The sigma in [0, 1] that `disparity_to_depth` turns into a depth in [min_depth, max_depth], metres."""
    far, near = 1 / max_depth, 1 / min_depth
    return (1 / depth - far) / (near - far)


class DepthNet(nn.Module):
    """Encoder and multi-scale disparity decoder: the student, and by default the teacher.

    New ones see the middle of their range everywhere, `sqrt(min_depth * max_depth)`.
    """

    def __init__(self, config: DepthNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or DepthNetConfig()
        self.encoder = ENCODERS[self.config.encoder]()
        channels, widths, padding = self.encoder.channels, self.config.widths, self.config.padding
        self.decoder: DisparityDecoder | LiteMonoDecoder
        if isinstance(self.encoder, LiteMono):
            self.decoder = LiteMonoDecoder(channels, widths, padding)
        else:
            self.decoder = DisparityDecoder(channels, widths, self.config.dense_skips, padding)
        # Left alone, sigma starts around a half, which is 0.2 m: from there a loss that forgives one common factor drives coarse
        # heads to 1, where the sigmoid has no gradient to come back by. So they start as in Lin et al. 2017 (section 4.1).
        for head in self.decoder.heads:
            nn.init.normal_(head.weight, std=0.01)  # type: ignore[arg-type]
        self.start_at(math.sqrt(self.config.min_depth * self.config.max_depth))
        self.mean: Tensor
        self.std: Tensor
        # The network normalises for itself, so that no caller and no engine can get it wrong.
        imagenet = self.config.normalisation == "imagenet"
        for name, values in zip(
            ("mean", "std"), (self.encoder.mean, self.encoder.std) if imagenet else _GREY, strict=True
        ):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)

    def start_at(self, depth: float) -> None:
        """Have a new network see about one depth everywhere, metres, between those of its range."""
        sigma = depth_to_disparity(depth, self.config.min_depth, self.config.max_depth)
        for head in self.decoder.heads:
            nn.init.constant_(head.bias, math.log(sigma / (1 - sigma)))  # type: ignore[arg-type]

    def load_imagenet(self) -> None:
        """Start the encoder from ImageNet weights (`efficientnet_lite0` only)."""
        if self.config.encoder != "efficientnet_lite0":
            raise ValueError(f"no ImageNet weights at hand for {self.config.encoder!r}")
        self.encoder.load_state_dict(imagenet_state())

    def forward(self, image: Tensor, scales: int | None = None) -> list[Tensor]:
        """Disparity sigma at up to `decoder.SCALES` scales.

        Args:
            image: `[B, 3, H, W]` RGB in [0, 1]; H and W multiples of 32.
            scales: how many maps to return, finest first; None returns all.

        Returns:
            `scales` maps `[B, 1, H/s, W/s]` in (0, 1), s = 1, 2, 4, and 8 where the decoder goes so far.
        """
        return self.decoder(self.features(image), self.decoder.SCALES if scales is None else scales)

    def features(self, image: Tensor) -> list[Tensor]:
        """Encoder features `[B, C, H/s, W/s]`, s in `encoder.strides`, of an image as in `forward`."""
        return self.encoder((image - self.mean) / self.std)

    def depth(self, image: Tensor) -> Tensor:
        """Full-resolution depth `[B, 1, H, W]` in metres from an image `[B, 3, H, W]` in [0, 1]."""
        return disparity_to_depth(self(image, scales=1)[0], self.config.min_depth, self.config.max_depth)
