"""The teacher: an earlier generation held fast, or a slow average of the student."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from ssmde_ros.data.triplets import Batch
from ssmde_ros.networks import DepthNet, disparity_to_depth
from ssmde_ros.training.mask_filter import TeacherViews


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, momentum: float) -> None:
    """One step of a moving average: `theta <- m theta + (1 - m) theta_net`; buffers are copied."""
    torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - momentum)
    for held, given in zip(average.buffers(), net.buffers(), strict=True):
        held.copy_(given)


class Teacher(nn.Module):
    """A depth network that is never trained by gradient.

    Args:
        net: what to start from: the student, or a frozen generation; copied.
        momentum: m of the moving average; 1 keeps the teacher frozen.

    Raises:
        ValueError: a momentum outside (0, 1].
    """

    def __init__(self, net: DepthNet, momentum: float) -> None:
        super().__init__()
        if not 0 < momentum <= 1:
            raise ValueError(f"teacher momentum must lie in (0, 1], got {momentum}")
        self.net = deepcopy(net).requires_grad_(False).eval()
        self.momentum = momentum
        self.updates = 0

    def train(self, mode: bool = True) -> Teacher:
        """Stays in eval mode, whatever the module around it does."""
        return super().train(False)

    @torch.no_grad()
    def update(self, student: DepthNet) -> None:
        """`theta <- m theta + (1 - m) theta_student`; buffers are copied. Young averages follow faster."""
        if self.momentum == 1:
            return
        self.updates += 1
        # The warm-up of Tarvainen & Valpola 2017: an average over nine steps is no use with m = 0.999.
        momentum = min(self.momentum, (1 + self.updates) / (10 + self.updates))
        follow(self.net, student, momentum)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.updates)

    def set_extra_state(self, state: Tensor) -> None:
        self.updates = int(state)

    @torch.no_grad()
    def look(self, batch: Batch) -> TeacherViews:
        """Depth and features of the clean frames, and depth of the mirrored and recolored target."""
        count, views = batch.frames.shape[:2]
        target = batch.frames[:, 0]
        images = torch.cat([batch.frames.transpose(0, 1).flatten(0, 1), target.flip(-1), batch.augmented[:, 0]])
        features = self.net.features(images)
        config = self.net.config
        depth = disparity_to_depth(self.net.decoder(features, 1)[0], config.min_depth, config.max_depth)
        parts, coarse = depth.split(count), features[self.net.encoder.strides.index(4)].split(count)
        return TeacherViews(
            parts[0], parts[views].flip(-1), parts[views + 1], parts[1:views], coarse[0], coarse[1:views]
        )
