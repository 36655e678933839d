"""Deep residual encoders for imported teachers: ResNet-50 and ResNeXt-101 32x8d (He et al. 2016, Xie et al. 2017).

Tensor names are those of the usual ImageNet checkpoints, so that published weights load by name. The students'
encoders are in `encoders.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class ResNetLayout:
    """What tells one deep ResNet from another.

    Attributes:
        blocks: bottlenecks in each of the four stages.
        groups: of the 3x3 convolutions.
        width: channels inside the first stage's bottlenecks; doubles with each stage.
    """

    blocks: tuple[int, int, int, int]
    groups: int
    width: int


RESNETS: dict[str, ResNetLayout] = {
    "resnet50": ResNetLayout((3, 4, 6, 3), 1, 64),
    "resnext101": ResNetLayout((3, 4, 23, 3), 32, 32 * 8),
}


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions with a skip. `[B, C, H, W]`.

    The stride is in the 3x3 convolution: the 1x1 would throw three quarters of its input away unseen.
    """

    def __init__(self, inputs: int, width: int, outputs: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
            if stride != 1 or inputs != outputs
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x), inplace=True)


def bottleneck_stages(layout: ResNetLayout) -> list[nn.Sequential]:
    """The four stages after the stem, 64 channels in, 256, 512, 1024, 2048 out at strides 1, 2, 2, 2."""
    stages, inputs = [], 64
    for stage, blocks in enumerate(layout.blocks):
        width, outputs = layout.width * 2**stage, 256 * 2**stage
        parts = [Bottleneck(inputs, width, outputs, 1 if stage == 0 else 2, layout.groups)]
        parts += [Bottleneck(outputs, width, outputs, 1, layout.groups) for _ in range(blocks - 1)]
        stages.append(nn.Sequential(*parts))
        inputs = outputs
    return stages


class ResNetBackbone(nn.Module):
    """A deep ResNet without its classifier: image `[B, 3, H, W]` to features at strides 4, 8, 16, 32."""

    channels = (256, 512, 1024, 2048)

    def __init__(self, layout: ResNetLayout) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        for number, stage in enumerate(bottleneck_stages(layout), start=1):
            self.add_module(f"layer{number}", stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.max_pool2d(x, 3, 2, 1)
        features = []
        for stage in range(4):
            x = self.get_submodule(f"layer{stage + 1}")(x)
            features.append(x)
        return features
