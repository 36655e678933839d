"""The depth network f: image to inverse depth (DESIGN section 1)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ssmde_ros.networks.decoder import DisparityDecoder, Padding
from ssmde_ros.networks.encoders import ENCODERS, imagenet_state
from ssmde_ros.networks.lite_mono import LiteMono, LiteMonoDecoder

ScaleKind = Literal["relative", "metric"]
Normalisation = Literal["imagenet", "grey"]

_GREY = ((0.45,) * 3, (0.225,) * 3)  # mean and deviation of all channels, in monodepth2 and what descends from it

# Marks options that came after the first weight files: at their default they are not recorded, so that older files load
# and keep their digest.
_LATER = {"later": True}


@dataclass(frozen=True)
class DepthNetConfig:
    """What a weight file needs to say so that its network can be built again.

    Attributes:
        encoder: a key of `ENCODERS`.
        widths: decoder channels, finest first: one for each feature map of the encoder.
        input_width, input_height: the size the network was trained for, pixels, multiples of 32.
        min_depth, max_depth: range of the output, metres.
        scale_kind: "metric" when the output was tied to metres, otherwise "relative": right up to one factor.
        dense_skips: every decoder level also sees all deeper ones (see `DisparityDecoder`); not in Lite-Mono.
        padding: of the decoder; "reflect" in networks that others published.
        normalisation: of the image: the encoder's own, or one mean and deviation for all channels.

    Raises:
        ValueError: an unknown encoder, or a value out of range.
    """

    encoder: str = "efficientnet_lite0"
    widths: tuple[int, ...] = (8, 16, 24, 40, 64)
    input_width: int = 320
    input_height: int = 256
    min_depth: float = 0.1
    max_depth: float = 100.0
    scale_kind: ScaleKind = "relative"
    dense_skips: bool = field(default=False, metadata=_LATER)
    padding: Padding = field(default="zeros", metadata=_LATER)
    normalisation: Normalisation = field(default="imagenet", metadata=_LATER)

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise ValueError(f"unknown encoder {self.encoder!r}, choose from {', '.join(ENCODERS)}")
        if any(type(v) is not int for v in (*self.widths, self.input_width, self.input_height)):
            raise ValueError("widths and input size must be integers")
        levels = len(ENCODERS[self.encoder].channels)
        if len(self.widths) != levels or min(self.widths) < 1 or max(self.widths) > 4096:
            raise ValueError(f"widths must be {levels} integers from 1 to 4096, got {self.widths}")
        if self.input_width < 32 or self.input_height < 32 or self.input_width % 32 or self.input_height % 32:
            raise ValueError(f"input size must be multiples of 32, got {self.input_width}x{self.input_height}")
        if not 0 < self.min_depth < self.max_depth < float("inf"):
            raise ValueError(f"need 0 < min_depth < max_depth, got {self.min_depth} and {self.max_depth}")
        if self.scale_kind not in ("relative", "metric"):
            raise ValueError(f"scale_kind must be 'relative' or 'metric', got {self.scale_kind!r}")
        if type(self.dense_skips) is not bool:
            raise ValueError(f"dense_skips must be true or false, got {self.dense_skips!r}")
        if self.dense_skips and issubclass(ENCODERS[self.encoder], LiteMono):
            raise ValueError(f"dense_skips: the decoder of {self.encoder} has none")
        for name, kind in (("padding", Padding), ("normalisation", Normalisation)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be {' or '.join(get_args(kind))}, got {getattr(self, name)!r}")

    def recorded(self) -> dict[str, Any]:
        """What a weight file says about its network, and what its digest covers."""
        silent = {f.name for f in fields(self) if f.metadata.get("later") and getattr(self, f.name) == f.default}
        return {name: value for name, value in asdict(self).items() if name not in silent}


def disparity_to_depth(sigma: Tensor, min_depth: float, max_depth: float) -> Tensor:
    """Depth in metres from a sigmoid map: `1/D = 1/D_max + (1/D_min - 1/D_max) sigma` (Godard 2019).

    Args:
        sigma: any shape, in [0, 1].

    Returns:
        Depth of the same shape, in [min_depth, max_depth].
    """
    far, near = 1 / max_depth, 1 / min_depth
    return 1 / (far + (near - far) * sigma)


class DepthNet(nn.Module):
    """Encoder and multi-scale disparity decoder: the student, and by default the teacher."""

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
        self.mean: Tensor
        self.std: Tensor
        # The network normalises for itself, so that no caller and no engine can get it wrong.
        imagenet = self.config.normalisation == "imagenet"
        for name, values in zip(
            ("mean", "std"), (self.encoder.mean, self.encoder.std) if imagenet else _GREY, strict=True
        ):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)

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
