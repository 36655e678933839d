"""The pseudo-depth of a whole clip."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from ssmde_ros.data.clip import Clip
from ssmde_ros.training.pseudo_depth.provider import PseudoDepthProvider


def pseudo_maps(provider: PseudoDepthProvider, clip: Clip, proceed: Callable[[], None] = lambda: None) -> Tensor:
    """Pseudo-depth `[N, 1, H, W]` of each frame; a folder of maps is asked for the name of the frame."""
    maps = []
    images = tqdm(clip.images, desc=f"pseudo-depth of {clip.name}", unit="frame", disable=None)
    for image, name in zip(images, clip.names, strict=True):
        maps.append(torch.from_numpy(provider.predict(image.permute(1, 2, 0).numpy(), name)))
        proceed()
    return torch.stack(maps)[:, None]
