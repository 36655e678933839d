"""Synthetic frames as training samples: drawn once, kept on disk, augmented anew each time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from ssmde_ros.data.augmentation import augment_color, borrow_look
from ssmde_ros.data.synthetic.world import Kind, SyntheticWorld, WorldConfig
from ssmde_ros.geometry import PinholeCamera

SIZES = ((320, 256), (512, 160))  # width, height: the same area for upright and for wide cameras

DRAWING = 3  # of the worlds; one more whenever they draw the same seed differently, so that no cache mixes the two
WIDE_KINDS: tuple[Kind, ...] = ("city", "city", "street")
TALL_KINDS: tuple[Kind, ...] = ("city", "street", "terrain", "room", "room", "room", "table", "table")


@dataclass(frozen=True)
class SampleKey:
    """Which frame to draw. Each seed is one scene with its own camera."""

    seed: int
    wide: bool

    @property
    def kind(self) -> Kind:
        """What the scene shows."""
        kinds = WIDE_KINDS if self.wide else TALL_KINDS
        return kinds[int(np.random.default_rng([self.seed, 76]).integers(len(kinds)))]

    @property
    def file_name(self) -> str:
        """Where a cache keeps the frame."""
        width, height = SIZES[self.wide]
        return f"v{DRAWING}-{self.kind}-{width}x{height}-{self.seed:07d}.npz"

    def draw(self) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        """Image `[H, W, 3]` RGB and depth `[H, W]` in metres, infinity for the sky."""
        rng = np.random.default_rng([self.seed, 77])
        width, height = SIZES[self.wide]
        focal = float(rng.uniform(0.5, 0.9) if self.wide else rng.uniform(0.6, 1.15)) * width
        cx = (width - 1) / 2 + float(rng.normal(0, 0.02)) * width
        cy = (height - 1) / 2 + float(rng.normal(0, 0.03)) * height
        camera = PinholeCamera(width, height, focal, focal, cx, cy)
        world = SyntheticWorld(WorldConfig(self.kind, self.seed, camera, noise=0.0))
        frame = world.render(float(rng.uniform(0, 2)))
        image = (frame.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        depth = frame.depth[0].numpy()
        # Half precision ends at 65504: what is a kilometre away may as well be two.
        return image, np.where(np.isinf(depth), np.inf, depth.clip(max=1000.0)).astype(np.float16)


def augmented(
    image: NDArray[np.uint8], depth: NDArray[np.float16], looks: Sequence[NDArray[np.uint8]] = ()
) -> tuple[Tensor, Tensor]:
    """Image `[3, H, W]` uint8 and depth `[1, H, W]` float32 with random colors, every other time mirrored.

    Args:
        image: `[H, W, 3]` RGB.
        depth: `[H, W]` metres.
        looks: photographs of the image's size; every other time the image takes the look of one of them.
    """
    rng = np.random.default_rng(int(torch.randint(2**31, (1,)).item()))
    if looks and rng.random() < 0.5:
        image = borrow_look(image, looks[int(rng.integers(len(looks)))], float(rng.uniform(0.005, 0.04)))
    if rng.random() < 0.3:
        # Blown out: what is white need not be the sky, it may be a wall or a window's frame.
        image = cv2.convertScaleAbs(image, alpha=float(rng.uniform(1.2, 2.2))).astype(np.uint8)
    image = augment_color(image, rng)
    if rng.random() < 0.5:
        image, depth = image[:, ::-1], depth[:, ::-1]
    return _tensors(image, depth)


def _tensors(image: NDArray[np.uint8], depth: NDArray[np.float16]) -> tuple[Tensor, Tensor]:
    image, metres = np.ascontiguousarray(image), np.ascontiguousarray(depth, dtype=np.float32)
    return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(metres)[None]


class SyntheticDepthDataset(Dataset[tuple[Tensor, Tensor]]):
    """Image `[3, H, W]` uint8 and depth `[1, H, W]` float32 for each key.

    Args:
        keys: the frames.
        cache: folder where drawn frames are kept; safe to share between processes.
        augment: random colors and horizontal flips when training, none when validating.
        looks: photographs `[H, W, 3]` of any size; augmented frames take the look of a random one, every other time.
    """

    def __init__(
        self, keys: list[SampleKey], cache: Path, augment: bool, looks: Sequence[NDArray[np.uint8]] = ()
    ) -> None:
        self.keys, self.cache, self.augment = keys, cache, augment
        self.looks = {size: [cv2.resize(look, size, interpolation=cv2.INTER_AREA) for look in looks] for size in SIZES}
        cache.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, depth = self._cached(self.keys[index])
        if self.augment:
            return augmented(image, depth, self.looks[image.shape[1], image.shape[0]])
        return _tensors(image, depth)

    def _cached(self, key: SampleKey) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
        path = self.cache / key.file_name
        if path.is_file():
            with np.load(path) as file:
                return file["image"], file["depth"]
        image, depth = key.draw()
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with partial.open("wb") as file:
            np.savez(file, image=image, depth=depth)
        partial.replace(path)
        return image, depth


class SameSizeBatches(Sampler[list[int]]):
    """Random batches in which all frames share one size, so that they stack."""

    def __init__(self, keys: Sequence[SampleKey], batch_size: int, seed: int = 0) -> None:
        self.groups = [[i for i, key in enumerate(keys) if key.wide == wide] for wide in (False, True)]
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer: each epoch has its own order, the same after a resume."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(len(group) // self.batch_size for group in self.groups)

    def __iter__(self) -> Iterator[list[int]]:
        rng = np.random.default_rng([self.seed, self.epoch])
        batches = []
        for group in self.groups:
            order = rng.permutation(group)
            count = len(group) // self.batch_size
            batches += [chunk.tolist() for chunk in order[: count * self.batch_size].reshape(count, self.batch_size)]
        for index in rng.permutation(len(batches)):
            yield batches[index]
