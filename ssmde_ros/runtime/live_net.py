"""The network as it is deployed: bytes in, metres out."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from ssmde_ros.networks import DepthNet, disparity_to_depth
from ssmde_ros.runtime.sub_pixel import faster_decoder


class LiveNet(nn.Module):
    """What is deployed: bytes in, depth out, batch norm folded, full-resolution head only, at half the resolution if possible."""

    def __init__(self, net: DepthNet) -> None:
        super().__init__()
        self.net: DepthNet = fold_batch_norm(copy.deepcopy(net).eval())
        self.decoder = faster_decoder(self.net.decoder)

    def forward(self, image: Tensor) -> Tensor:
        """Depth `[B, H, W]` float32 in metres from an image `[B, H, W, 3]` uint8."""
        # First to float: TensorRT knows bytes as an input and nowhere else.
        planar = image.to(self.net.mean.dtype).permute(0, 3, 1, 2) / 255
        sigma = self.decoder(self.net.features(planar), 1)[0]
        return disparity_to_depth(sigma, self.net.config.min_depth, self.net.config.max_depth)[:, 0].float()


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
