"""A small buffer of earlier material, so that learning one place does not unlearn the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssmde_ros.data.clip import Clip
from ssmde_ros.data.synthetic.world import SyntheticWorld, WorldConfig
from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import PinholeCamera
from ssmde_ros.networks import DepthNet
from ssmde_ros.training.losses import distillation_loss

FILE = "replay.npz"
_PER_STEP = 2  # images beside each batch
_HFOV = (50.0, 90.0)  # degrees, of the synthetic cameras
_FIRST_SEED = 70_000


class Replay:
    """Images of earlier recordings with the depth that the parent generation gives them.

    Args:
        images: `[N, H, W, 3]` uint8 RGB, of any one size; brought to the working size.
        parent: whose depth is to be kept.
        width, height: working size, pixels.
        weight: of the term.
    """

    def __init__(self, images: NDArray[np.uint8], parent: DepthNet, width: int, height: int, weight: float) -> None:
        small = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images]
        self.images = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).contiguous()
        self.weight = weight
        with torch.inference_mode():
            parent.eval()
            found = torch.cat([parent.depth(each[None].float() / 255) for each in self.images])
        self.depth = found.clone()

    def loss(self, student: DepthNet, step: int) -> Tensor:
        """`mean |log D_student - log(s D_parent)|` on the images of a step; a pure function of its number.

        A factor s per image is free: odometry may have changed the unit since.
        """
        order = np.random.default_rng([step // max(1, len(self.images) // _PER_STEP), 11]).permutation(len(self.images))
        chosen = [int(order[(step * _PER_STEP + i) % len(order)]) for i in range(min(_PER_STEP, len(order)))]
        images = self.images[chosen].float().to(next(student.parameters()).device) / 255
        wanted = self.depth[chosen].to(images)
        depth = student.depth(images.contiguous(memory_format=torch.channels_last))
        return distillation_loss(depth, wanted, torch.ones_like(depth, dtype=torch.bool))


def synthetic_images(count: int, width: int, height: int) -> NDArray[np.uint8]:
    """What the shipped student was made from: streets and rooms `[N, H, W, 3]` uint8, each from another scene."""
    images = []
    for number in range(count):
        rng = np.random.default_rng([_FIRST_SEED, number])
        camera = PinholeCamera.from_hfov(width, height, np.radians(rng.uniform(*_HFOV)))
        config = WorldConfig("room" if number % 2 else "street", _FIRST_SEED + number, camera)
        frame = SyntheticWorld(config).render(float(rng.uniform(0, 3)))
        images.append((frame.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8))
    return np.stack(images)


def earlier_images(folder: Path, count: int, width: int, height: int) -> NDArray[np.uint8]:
    """The buffer of the parent generation; where there is none, synthetic scenes.

    Args:
        folder: of the parent generation, or of its weights file.

    Raises:
        SsmdeError: a buffer that cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        return synthetic_images(count, width, height)
    try:
        with np.load(path, allow_pickle=False) as file:
            images = file["images"]
    except (OSError, ValueError, KeyError) as error:
        raise SsmdeError(f"replay buffer {path} cannot be read: {' '.join(str(error).split())}") from error
    if images.ndim != 4 or images.dtype != np.uint8 or not len(images):
        raise SsmdeError(f"replay buffer {path} holds {images.dtype} {images.shape}, not [N, H, W, 3] uint8 images")
    return np.asarray(images[:count])


def write_buffer(path: Path, earlier: NDArray[np.uint8] | None, clips: Sequence[Clip], count: int) -> None:
    """The buffer of a new generation: half of the earlier one, half of what was learned from."""
    height, width = clips[0].images.shape[2:]
    own = torch.cat([clip.images for clip in clips])
    fresh = count if earlier is None else count - count // 2
    chosen = own[torch.linspace(0, len(own) - 1, min(fresh, len(own))).long()].permute(0, 2, 3, 1).numpy()
    kept = [] if earlier is None else [cv2.resize(image, (width, height)) for image in earlier[::2][: count // 2]]
    with path.open("wb") as file:
        np.savez_compressed(file, images=np.concatenate([np.stack(kept), chosen]) if kept else chosen)
