"""What the depth network looks like; written into its weight files. Does without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

Padding = Literal["zeros", "reflect"]
"""What lies beyond the edge. Engines fuse zeros into the convolution, reflection they do not; published networks have it."""
ScaleKind = Literal["relative", "metric"]
Normalisation = Literal["imagenet", "grey"]

# Marks options that came after the first weight files: at their default they are not recorded, so that older files load
# and keep their digest.
_LATER = {"later": True}

ENCODER_LEVELS = {"efficientnet_lite0": 5, "resnet18": 5, "resnet50": 5} | {
    f"lite_mono{size}{wide}": 3 for wide in ("", "_wide") for size in ("", "_small", "_tiny", "_8m")
}
"""Feature maps of each encoder in `encoders.py`."""


@dataclass(frozen=True)
class DepthNetConfig:
    """What a weight file needs to say so that its network can be built again.

    Attributes:
        encoder: a key of `ENCODER_LEVELS`.
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
        if self.encoder not in ENCODER_LEVELS:
            raise ValueError(f"unknown encoder {self.encoder!r}, choose from {', '.join(ENCODER_LEVELS)}")
        if any(type(v) is not int for v in (*self.widths, self.input_width, self.input_height)):
            raise ValueError("widths and input size must be integers")
        levels = ENCODER_LEVELS[self.encoder]
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
        if self.dense_skips and self.encoder.startswith("lite_mono"):
            raise ValueError(f"dense_skips: the decoder of {self.encoder} has none")
        for name, kind in (("padding", Padding), ("normalisation", Normalisation)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be {' or '.join(get_args(kind))}, got {getattr(self, name)!r}")

    @property
    def layout(self) -> tuple[object, ...]:
        """All that names and shapes of the network's tensors depend on."""
        return self.encoder, self.widths, self.dense_skips

    def recorded(self) -> dict[str, Any]:
        """What a weight file says about its network, and what its digest covers."""
        silent = {f.name for f in fields(self) if f.metadata.get("later") and getattr(self, f.name) == f.default}
        return {name: value for name, value in asdict(self).items() if name not in silent}
