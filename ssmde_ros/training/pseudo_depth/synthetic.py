"""Pseudo-depth imitated from true depth: for tests, and for ablations where the truth is known.

Wrong in the ways a foreign network is wrong: unknown scale and shift per image, soft edges, slow errors across the
image, noise, and, with `bias`, an error that all images share: the one that only forgetting the prior cures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.errors import SsmdeError
from ssmde_ros.training.pseudo_depth.provider import Convention, as_rgb, checked

Truth = Mapping[str, NDArray[np.float32]] | Callable[[str], NDArray[np.float32]]


@dataclass(frozen=True)
class Degradation:
    """How wrong the imitation is.

    Attributes:
        seed: of all random choices, together with the frame's name.
        affine: a random scale (within a factor e either way) and shift (up to half the mean) for each image.
        blur: standard deviation, pixels.
        warp: largest relative error of a slow field across the image, another one for each image.
        bias: the same of one field that all images share.
        noise: standard deviation, in those of the map.
        max_depth: farther truth (the sky) counts as this, metres.
    """

    seed: int = 0
    affine: bool = True
    blur: float = 1.0
    warp: float = 0.1
    bias: float = 0.0
    noise: float = 0.02
    max_depth: float = 100.0

    def __post_init__(self) -> None:
        if not all(0 <= value < np.inf for value in (self.blur, self.warp, self.bias, self.noise)):
            raise ValueError(f"blur, warp, bias and noise must be finite and not negative, got {self}")
        if not 0 < self.max_depth < np.inf:
            raise ValueError(f"max_depth must be positive and finite, got {self.max_depth}")


class SyntheticPseudoDepth:
    """An imitation of a pseudo-depth network; the same seed and name always give the same map.

    Args:
        truth: true depth `[H, W]` in metres by the frame's name; infinity for the sky.
        convention: what the maps shall be affine in.
        degradation: how wrong they shall be.
    """

    def __init__(self, truth: Truth, convention: Convention, degradation: Degradation | None = None) -> None:
        self._truth: Callable[[str], NDArray[np.float32]] = truth.__getitem__ if isinstance(truth, Mapping) else truth
        self._how = degradation or Degradation()
        self.convention: Convention = convention
        self.identity = f"synthetic {convention} {self._how}"

    def predict(self, image: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
        """See `PseudoDepthProvider.predict`."""
        image = as_rgb(image)
        try:
            truth = self._truth(name)
        except KeyError as error:
            raise SsmdeError(f"there is no true depth for frame {name!r} to imitate pseudo-depth from") from error
        if np.isnan(truth).any() or not (truth > 0).all():
            raise SsmdeError(f"true depth of frame {name!r} has holes; pseudo-depth is imitated from dense maps only")
        return checked(self._degrade(truth, name), image, name, self.identity)

    def _degrade(self, truth: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        how, rng = self._how, _generator(f"{self._how.seed}/frame/{name}")
        depth = np.minimum(truth, how.max_depth).astype(np.float64)
        values = depth if self.convention == "depth" else 1 / depth
        shared = _slow_field(_generator(f"{how.seed}/all"), truth.shape)
        values = values * np.exp(how.bias * shared + how.warp * _slow_field(rng, truth.shape))
        if how.blur > 0:
            values = cv2.GaussianBlur(values, (0, 0), how.blur)
        noise = rng.standard_normal(truth.shape)
        scale, shift = np.exp(rng.uniform(-1, 1)), rng.uniform(-0.5, 0.5)
        values = values + how.noise * values.std() * noise
        if how.affine:
            values = scale * (values + shift * values.mean())
        return np.asarray(values, np.float32)


def _generator(text: str) -> np.random.Generator:
    # Not `hash`, which differs from one process to the next.
    return np.random.default_rng(np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint32))


def _slow_field(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """A smooth random field `[H, W]` in [-1, 1]; the same picture at every size."""
    coarse = rng.uniform(-1, 1, (4, 4))
    field = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(field, np.float64).clip(-1, 1)
