"""The network as it is deployed: bytes in, metres out."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from ssmde_ros.networks import DepthNet


class LiveNet(nn.Module):
    """What is deployed: bytes in, depth out, batch norm folded, full-resolution head only."""

    def __init__(self, net: DepthNet) -> None:
        super().__init__()
        self.net: DepthNet = fold_batch_norm(copy.deepcopy(net).eval())

    def forward(self, image: Tensor) -> Tensor:
        """Depth `[B, H, W]` float32 in metres from an image `[B, H, W, 3]` uint8."""
        # First to float: TensorRT knows bytes as an input and nowhere else.
        planar = image.to(self.net.mean.dtype).permute(0, 3, 1, 2) / 255
        return self.net.depth(planar)[:, 0].float()


def fold_batch_norm(module: DepthNet) -> DepthNet:
    """Fold every batch norm that directly follows a convolution in a Sequential into it, in place."""
    for part in module.modules():
        if not isinstance(part, nn.Sequential):
            continue
        for index in range(len(part) - 1):
            conv, norm = part[index], part[index + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                part[index] = nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
                part[index + 1] = nn.Identity()
    return module
