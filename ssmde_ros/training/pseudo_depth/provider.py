"""What every pseudo-depth provider promises, and the checks they share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.errors import SsmdeError
from ssmde_ros.training.losses.pseudo import Convention

__all__ = ["Convention", "PseudoDepthProvider", "as_rgb", "checked", "digest_of", "resized"]


class PseudoDepthProvider(Protocol):
    """A source of pseudo-depth.

    Attributes:
        convention: what is affine-invariant: LeReS gives depth, relative Depth Anything gives inverse depth.
        identity: short text that changes whenever the maps would: provider, digest of the weights, settings.
    """

    convention: Convention
    identity: str

    def predict(self, image: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
        """Pseudo-depth of one frame.

        Args:
            image: `[H, W, 3]` RGB.
            name: of the frame, for look-ups and messages.

        Returns:
            `[H, W]`, finite; unknown positive scale and unknown shift unless the source is metric.

        Raises:
            SsmdeError: there is no usable map; the message names the frame.
        """
        ...


def as_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image itself in one block of memory; ValueError unless it is `[H, W, 3]` uint8."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
        raise ValueError(f"need an RGB image [H, W, 3] uint8, got {image.shape} {image.dtype}")
    return np.ascontiguousarray(image)


def resized(values: NDArray[np.float32], image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A map `[h, w]` brought to the size of the image, bilinearly."""
    height, width = image.shape[:2]
    if values.shape == (height, width):
        return values
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def checked(values: NDArray[np.float32], image: NDArray[np.uint8], name: str, identity: str) -> NDArray[np.float32]:
    """The map itself; SsmdeError naming the frame unless it has the image's size and is finite everywhere."""
    if values.shape != image.shape[:2]:
        raise SsmdeError(f"pseudo-depth of frame {name!r} is {values.shape}, the image {image.shape[:2]} ({identity})")
    if bad := int((~np.isfinite(values)).sum()):
        raise SsmdeError(f"pseudo-depth of frame {name!r} has {bad} values that are NaN or infinite ({identity})")
    return values


def digest_of(paths: Iterable[Path]) -> str:
    """16 hex digits of a SHA-256 over names and contents of files."""
    sha = hashlib.sha256()
    for path in sorted(paths):
        sha.update(path.name.encode() + b"\0")
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()[:16]
