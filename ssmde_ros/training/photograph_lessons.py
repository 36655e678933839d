"""Photographs as lessons without a sensor: what several students agree on teaches one of them (distillation)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from ssmde_ros.data.synthetic.dataset import SIZES, augmented
from ssmde_ros.networks import DepthNet

_LEAST = 0.6  # of the largest crop's sides


@dataclass(frozen=True)
class PhotographKey:
    """One crop: of which picture, and of which shape."""

    picture: int
    wide: bool


def crop(picture: NDArray[np.uint8], size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A random part of a picture `[H, W, 3]`, of the shape of `size` (width, height) and scaled to it."""
    height, width = picture.shape[:2]
    factor = min(width / size[0], height / size[1]) * float(rng.uniform(_LEAST, 1.0))
    wide, high = max(1, int(size[0] * factor)), max(1, int(size[1] * factor))
    x, y = int(rng.integers(width - wide + 1)), int(rng.integers(height - high + 1))
    interpolation = cv2.INTER_AREA if factor > 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture[y : y + high, x : x + wide], size, interpolation=interpolation), np.uint8)


@torch.inference_mode()
def agreed_depth(teachers: Sequence[DepthNet], image: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Depth `[H, W]` on which the teachers agree: the mean of log depth, over them and over the mirrored image.

    Each is divided by its own median first, so that where they differ only in scale nothing is lost; the mean
    of the medians gives the scale.

    Args:
        image: `[H, W, 3]` RGB.
    """
    straight = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
    logs = []
    for teacher in teachers:
        logs += [teacher.depth(straight).log(), teacher.depth(straight.flip(-1)).flip(-1).log()]
    stack = torch.cat(logs)[:, 0]
    middles = stack.flatten(1).median(1).values
    mean = (stack - middles[:, None, None]).mean(0) + middles.mean()
    return mean.exp().numpy().astype(np.float16)


class LabelledPhotographs(Dataset[tuple[Tensor, Tensor]]):
    """Image `[3, H, W]` uint8, augmented anew each time, and depth `[1, H, W]` float32 of crops of photographs.

    Args:
        pictures: `[H, W, 3]` RGB of any size.
        teachers: who say what depth they show.
        times: how often each stands in `keys`, every third time wide.

    Attributes:
        keys: one for each item.
    """

    def __init__(self, pictures: Sequence[NDArray[np.uint8]], teachers: Sequence[DepthNet], times: int) -> None:
        self.keys = [
            PhotographKey(index, wide=turn % 3 == 0) for turn in range(times) for index in range(len(pictures))
        ]
        self._lessons: list[tuple[NDArray[np.uint8], NDArray[np.float16]]] = []
        for number, key in enumerate(tqdm(self.keys, desc="labelling photographs", unit="crop")):
            image = crop(pictures[key.picture], SIZES[key.wide], np.random.default_rng([number, 78]))
            self._lessons.append((image, agreed_depth(teachers, image)))

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return augmented(*self._lessons[index])
