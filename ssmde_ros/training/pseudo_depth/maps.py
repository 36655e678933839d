"""The pseudo-depth of whole clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from ssmde_ros.data.clip import Clip
from ssmde_ros.data.triplets import TrainingClip
from ssmde_ros.training.pseudo_depth.provider import Convention, PseudoDepthProvider


def ask_for_pseudo_depth(
    provider: PseudoDepthProvider | None,
    items: Sequence[TrainingClip],
    gaps: Sequence[int],
    proceed: Callable[[], None] = lambda: None,
) -> Convention:
    """Give clips the pseudo-depth of their target frames, in place; computed once, before the training.

    Args:
        provider: None leaves the clips without.
        gaps: of the targets, where a clip has none of its own.
        proceed: called after each frame; what it raises ends the work.

    Returns:
        What the maps are affine in.
    """
    if provider is None:
        return "inverse_depth"
    for item in items:
        item.pseudo = pseudo_maps(provider, item.clip, item.targets(gaps), proceed)
        item.pseudo_convention = provider.convention
    return provider.convention


def pseudo_maps(
    provider: PseudoDepthProvider, clip: Clip, frames: Iterable[int], proceed: Callable[[], None] = lambda: None
) -> Tensor:
    """Pseudo-depth `[N, 1, H, W]` of some frames, 0 in the others; a folder is asked for the name of the frame."""
    maps = torch.zeros(len(clip), 1, *clip.images.shape[2:])
    for number in tqdm(list(frames), desc=f"pseudo-depth of {clip.name}", unit="frame", disable=None):
        image = clip.images[number].permute(1, 2, 0).numpy()
        maps[number, 0] = torch.from_numpy(provider.predict(image, clip.names[number]))
        proceed()
    return maps
