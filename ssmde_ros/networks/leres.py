"""LeReS: affine-invariant depth from one picture (Yin et al. 2021), the prior our training starts from.

Written from the published description and from the names and shapes in the published checkpoints; the authors' code, whose
licence is non-commercial, was not opened. Names and shapes leave some of the wiring open. It is marked "open" where it
is decided: the residual units rectify their skip and their sum; the deepest features are transformed first and
up-sampled after. Not yet run on published weights, so not yet verified.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssmde_ros.networks.checkpoint_file import read_checkpoint
from ssmde_ros.networks.identity import WeightsError, check_finite, check_layout
from ssmde_ros.networks.resnet_backbone import RESNETS, ResNetBackbone

INPUT_SIZE = 448  # pixels, square: what the published weights were trained on
_MEAN = (0.485, 0.456, 0.406)  # ImageNet, RGB
_STD = (0.229, 0.224, 0.225)


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)


class ResidualUnit(nn.Module):
    """A 3x3 convolution to the wanted width, then two more with a skip. `[B, C, H, W]`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, outputs)
        self.conv_branch = nn.Sequential(
            nn.ReLU(), _conv(outputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU(), _conv(outputs, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        # Open: the skip carries the rectified features, and the sum is rectified again.
        x = F.relu(self.conv1(x))
        return F.relu(x + self.conv_branch(x))


class FeatureFusion(nn.Module):
    """Encoder features joined to what comes from below, then twice the size."""

    def __init__(self, skip: int, width: int) -> None:
        super().__init__()
        self.ftb1 = ResidualUnit(skip, width)
        self.ftb2 = ResidualUnit(width, width)

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        """`[B, skip, H, W]` and `[B, width, H, W]` to `[B, width, 2H, 2W]`."""
        return _double(self.ftb2(self.ftb1(skip) + x))


class OutputHead(nn.Module):
    """Two convolutions and the last doubling: `[B, C, H, W]` to `[B, 1, 2H, 2W]`."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        hidden = inputs // 2
        self.adapt_conv = nn.Sequential(_conv(inputs, hidden), nn.BatchNorm2d(hidden), nn.ReLU(), _conv(hidden, 1))

    def forward(self, x: Tensor) -> Tensor:
        return _double(self.adapt_conv(x))


class FusionDecoder(nn.Module):
    """Features at strides 4, 8, 16, 32 to one map at stride 1."""

    def __init__(self, channels: tuple[int, int, int, int], width: int = 256) -> None:
        super().__init__()
        self.conv = ResidualUnit(channels[3], 2 * width)
        self.conv1 = _conv(2 * width, width)
        self.ffm2 = FeatureFusion(channels[2], width)
        self.ffm1 = FeatureFusion(channels[1], width)
        self.ffm0 = FeatureFusion(channels[0], width)
        self.outconv = OutputHead(width)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = _double(self.conv1(self.conv(features[3])))  # open: this order
        x = self.ffm2(features[2], x)
        x = self.ffm1(features[1], x)
        x = self.ffm0(features[0], x)
        return self.outconv(x)


class LeReS(nn.Module):
    """Image to depth up to an unknown scale and shift.

    Args:
        backbone: a key of `RESNETS`.
    """

    def __init__(self, backbone: str = "resnet50") -> None:
        super().__init__()
        if backbone not in RESNETS:
            raise ValueError(f"unknown LeReS backbone {backbone!r}, choose from {', '.join(RESNETS)}")
        self.backbone = backbone
        # The nesting gives the published tensor names.
        self.depth_model = nn.ModuleDict(
            {
                "encoder_modules": nn.ModuleDict({"encoder": ResNetBackbone(RESNETS[backbone])}),
                "decoder_modules": FusionDecoder(ResNetBackbone.channels),
            }
        )
        self.mean: Tensor
        self.std: Tensor
        # Not part of the state: the published checkpoints do not have them.
        for name, values in (("mean", _MEAN), ("std", _STD)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Affine-invariant depth.

        Args:
            image: `[B, 3, H, W]` RGB in [0, 1]; H and W multiples of 32.

        Returns:
            `[B, 1, H, W]`, unknown scale (positive) and shift, larger is farther.
        """
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] % 32 or image.shape[3] % 32:
            raise ValueError(f"need [B, 3, H, W] with H and W multiples of 32, got {tuple(image.shape)}")
        encoder: nn.Module = self.get_submodule("depth_model.encoder_modules.encoder")
        return self.depth_model["decoder_modules"](encoder((image - self.mean) / self.std))

    @torch.inference_mode()
    def predict(self, image: Tensor) -> Tensor:
        """Depth of images of any size, the published way: through 448x448 and back, bilinearly.

        Args:
            image: `[B, 3, H, W]` RGB in [0, 1].

        Returns:
            `[B, 1, H, W]` as from `forward`.
        """
        square = F.interpolate(image, (INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
        return F.interpolate(self(square), image.shape[-2:], mode="bilinear", align_corners=False)


def load_leres(path: Path) -> LeReS:
    """Read a published checkpoint (`res50.pth` or `res101.pth`) strictly.

    Returns:
        The network in eval mode on the CPU.

    Raises:
        WeightsError: missing or unreadable file, other tensors than LeReS has, or values that are not finite.
    """
    state = _read_state(path)
    # The 101-layer network is the only one with more than six blocks in its third stage.
    deep = any(name.startswith("depth_model.encoder_modules.encoder.layer3.6.") for name in state)
    net = LeReS("resnext101" if deep else "resnet50")
    check_layout(net.state_dict(), state, path)
    check_finite({name: tensor.detach() for name, tensor in state.items()}, path)
    net.load_state_dict(state)
    return net.eval()


def _read_state(path: Path) -> dict[str, Tensor]:
    content = read_checkpoint(path, "LeReS checkpoint", "res50.pth or res101.pth")
    state = content.get("depth_model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(
            f"{path} is no LeReS checkpoint (it has no `depth_model` tensors); give res50.pth or res101.pth"
        )
    # Trained on several GPUs, every name has got a prefix.
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}
