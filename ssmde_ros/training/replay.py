"""A small buffer of earlier material, so that learning one place does not unlearn the others.

What the parent says of any picture at all is known, and is what must be kept (Li and Hoiem 2016, "Learning without
forgetting"). So pictures that no camera took are made of the buffer and of the new recording: on the scenes of the buffer
alone a network soon agrees with its parent, while it forgets all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ssmde_ros.data.augmentation import augment_color
from ssmde_ros.data.clip import Clip
from ssmde_ros.data.synthetic.world import Kind, SyntheticWorld, WorldConfig
from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import PinholeCamera
from ssmde_ros.networks import DepthNet
from ssmde_ros.training.losses import distillation_loss

FILE = "replay.npz"
_HFOV = (50.0, 90.0)  # degrees, of the synthetic cameras
_KINDS: tuple[Kind, ...] = ("city", "room", "city", "table", "city", "room", "street", "terrain")
_FIRST_SEED = 70_000
_LEAST_CROP = 0.4  # of either side


class Replay:
    """Images of earlier recordings with the depth that the parent generation gives them.

    Args:
        images: `[N, H, W, 3]` uint8 RGB, of any one size; brought to the working size.
        parent: whose depth is to be kept.
        width, height: working size, pixels.
        weight: of the term.
        batch: images of each step.
    """

    def __init__(
        self, images: NDArray[np.uint8], parent: DepthNet, width: int, height: int, weight: float, batch: int
    ) -> None:
        small = [cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA) for image in images]
        self.images = torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).contiguous()
        self.weight, self.batch = weight, min(batch, len(small))
        with torch.inference_mode():
            parent.eval()
            bar = tqdm(self.images, desc="depth to keep", unit="image", disable=None, leave=False)
            found = torch.cat([parent.depth(each[None].float() / 255) for each in bar])
        self.depth = found.clone()  # an inference tensor may not meet a gradient

    def loss(self, student: DepthNet, step: int) -> Tensor:
        """`mean |log D_student - log(s D_parent)|` on the images of a step; a pure function of its number.

        A factor s per image is free: odometry may have changed the unit since.
        """
        count = len(self.images)
        order = np.random.default_rng([step // max(1, count // self.batch), 11]).permutation(count)
        chosen = [int(order[(step * self.batch + i) % count]) for i in range(self.batch)]
        images = self.images[chosen].float().to(next(student.parameters()).device) / 255
        wanted = self.depth[chosen].to(images)
        depth = student.depth(images.contiguous(memory_format=torch.channels_last))
        return distillation_loss(depth, wanted, torch.ones_like(depth, dtype=torch.bool))


def with_variations(earlier: NDArray[np.uint8], own: NDArray[np.uint8], each: int) -> NDArray[np.uint8]:
    """The buffer, and beside it crops and mixtures in other colors, upright or not, of it and of new images.

    Args:
        earlier: `[N, H, W, 3]` uint8 RGB, the buffer.
        own: `[M, h, w, 3]` uint8 RGB, of the new recording.
        each: how many beside each image of the buffer.

    Returns:
        `[(1 + each) N, H, W, 3]` uint8 RGB, the buffer first; the same arguments give the same images.
    """
    rng = np.random.default_rng(_FIRST_SEED)
    made = list(earlier)
    for _ in range(each * len(earlier)):
        first, second = (_crop(earlier if rng.random() < 0.5 else own, earlier.shape[1:3], rng) for _ in range(2))
        share = rng.choice([1.0, rng.uniform(0.2, 0.8)])
        made.append(augment_color(cv2.addWeighted(first, share, second, 1 - share, 0), rng))
    return np.stack(made)


def _crop(images: NDArray[np.uint8], size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    image = images[rng.integers(len(images))]
    height, width = (round(side * rng.uniform(_LEAST_CROP, 1)) for side in image.shape[:2])
    y, x = rng.integers(image.shape[0] - height + 1), rng.integers(image.shape[1] - width + 1)
    how = cv2.INTER_AREA if width > size[1] else cv2.INTER_LINEAR
    part = cv2.resize(image[y : y + height, x : x + width], (size[1], size[0]), interpolation=how)
    if rng.random() < 0.5:
        part = part[:, ::-1]
    if rng.random() < 0.25:
        part = part[::-1]
    return np.ascontiguousarray(part[..., rng.permutation(3)])


def spread(clips: Sequence[Clip], count: int) -> NDArray[np.uint8]:
    """At most so many images `[N, H, W, 3]` uint8 RGB, evenly from all clips."""
    frames = [(clip, t) for clip in clips for t in range(len(clip))]
    chosen = np.linspace(0, len(frames) - 1, min(count, len(frames))).astype(int)
    return np.stack([clip.images[t].permute(1, 2, 0).numpy() for clip, t in (frames[n] for n in chosen)])


def synthetic_images(count: int, width: int, height: int) -> NDArray[np.uint8]:
    """The worlds that the shipped student was made from: traffic, rooms, worktops, streets, terrain `[N, H, W, 3]` uint8, each from another scene."""
    images = []
    for number in tqdm(range(count), desc="drawing what to keep", unit="scene", disable=None, leave=False):
        rng = np.random.default_rng([_FIRST_SEED, number])
        camera = PinholeCamera.from_hfov(width, height, np.radians(rng.uniform(*_HFOV)))
        config = WorldConfig(_KINDS[number % len(_KINDS)], _FIRST_SEED + number, camera)
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
    chosen = spread(clips, count if earlier is None else count - count // 2)
    kept = [] if earlier is None else [cv2.resize(image, (width, height)) for image in earlier[::2][: count // 2]]
    with path.open("wb") as file:
        np.savez_compressed(file, images=np.concatenate([np.stack(kept), chosen]) if kept else chosen)
