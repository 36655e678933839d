"""The lightweight pose network g: two frames to the motion between them (DESIGN section 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ssmde_ros.geometry import rigid_motion, so3_exp

# Small outputs at the start: the first steps then see nearly the same view, and the photometric loss has a slope.
_OUTPUT_SCALE = 0.01


class PoseNet(nn.Module):
    """Seven strided convolutions and a mean over the image, in the manner of Zhou et al. 2017; 1.6 M parameters."""

    _layers = ((16, 7), (32, 5), (64, 3), (128, 3), (256, 3), (256, 3), (256, 3))

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        inputs = 6
        for outputs, kernel in self._layers:
            parts += [nn.Conv2d(inputs, outputs, kernel, 2, kernel // 2), nn.ReLU(inplace=True)]
            inputs = outputs
        self.features = nn.Sequential(*parts)
        self.head = nn.Conv2d(inputs, 6, 1)

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """`T_{t->s}` from a pair of frames; swap them for the other direction.

        Args:
            target, source: `[B, 3, H, W]` RGB in [0, 1]; H and W at least 128 give every layer something to see.

        Returns:
            Motions `[B, 4, 4]`: axis-angle rotation (radians) and translation in the units of the depth.
        """
        if target.shape != source.shape or target.ndim != 4 or target.shape[1] != 3:
            raise ValueError(f"need two [B, 3, H, W] frames, got {tuple(target.shape)} and {tuple(source.shape)}")
        pair = torch.cat([target, source], 1) - 0.45
        vector = _OUTPUT_SCALE * self.head(self.features(pair)).mean((2, 3))
        return rigid_motion(so3_exp(vector[:, :3]), vector[:, 3:])
