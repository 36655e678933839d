"""How much two frames tell about depth: what is left of their flow when the turning of the camera is taken out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.geometry import PinholeCamera

Floats = NDArray[np.float64]

_WIDTH = 320  # pixels; tracking is right to a tenth of one
_POINTS = 250
_FEWEST = 25  # tracked points, below which two frames have nothing in common
_CLOSURE = 0.7  # pixels that the way there and back may miss its start by
_ROUNDS = 6  # of the robust fit of a rotation


@dataclass(frozen=True)
class Parallax:
    """Two frames compared.

    Attributes:
        angle: radians, the 70th percentile of what a turn of the camera does not explain; 0 where nothing could be
            tracked. A tenth of a degree is noise.
        turn: radians that the camera turned.
        flow: median length of the whole flow, radians.
        tracked: share of the points that could be followed.
    """

    angle: float
    turn: float
    flow: float
    tracked: float


class ParallaxMeter:
    """Follows corners between frames of one camera.

    Args:
        images: grey `[h, w]` uint8.
        camera: theirs.
    """

    def __init__(self, images: Sequence[NDArray[np.uint8]], camera: PinholeCamera) -> None:
        scale = min(1.0, _WIDTH / camera.width)
        size = round(camera.width * scale), round(camera.height * scale)
        self._camera = camera.resized(*size)
        equal = cv2.createCLAHE(2.0, (8, 8))
        self._images = [equal.apply(cv2.resize(image, size, interpolation=cv2.INTER_AREA)) for image in images]
        self._corners: dict[int, NDArray[np.float32]] = {}

    def between(self, a: int, b: int) -> Parallax:
        """Compare frames number a and b."""
        start = self._corners_of(a)
        if len(start) < _FEWEST:
            return Parallax(0.0, 0.0, 0.0, 0.0)
        there, _, _ = self._follow(a, b, start)
        back, good, _ = self._follow(b, a, there)
        kept = (good[:, 0] == 1) & (np.linalg.norm(back - start, axis=2)[:, 0] < _CLOSURE)
        if kept.sum() < _FEWEST:
            return Parallax(0.0, 0.0, 0.0, float(kept.mean()))
        first, second = self._bearings(start[kept, 0]), self._bearings(there[kept, 0])
        turn, left = fit_rotation(first, second)
        flow = np.median(_angles(first, second))
        return Parallax(float(np.quantile(left, 0.7)), turn, float(flow), float(kept.mean()))

    def _corners_of(self, frame: int) -> NDArray[np.float32]:
        if frame not in self._corners:
            found = cv2.goodFeaturesToTrack(self._images[frame], _POINTS, 0.01, 6)
            empty = np.zeros((0, 1, 2), np.float32)
            self._corners[frame] = empty if found is None else np.asarray(found, np.float32).reshape(-1, 1, 2)
        return self._corners[frame]

    def _follow(
        self, a: int, b: int, points: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
        return cv2.calcOpticalFlowPyrLK(  # type: ignore[return-value]
            self._images[a], self._images[b], points, None, winSize=(15, 15), maxLevel=4,
            criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 0.02),
        )  # fmt: skip

    def _bearings(self, pixels: NDArray[np.float32]) -> Floats:
        camera = self._camera
        rays = np.column_stack(
            [(pixels[:, 0] - camera.cx) / camera.fx, (pixels[:, 1] - camera.cy) / camera.fy, np.ones(len(pixels))]
        )
        return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True), np.float64)


def fit_rotation(a: Floats, b: Floats) -> tuple[float, Floats]:
    """The turn between two sets of unit bearings `[N, 3]` that leaves least, in the L1 sense.

    Weighted orthogonal Procrustes (Kabsch 1976), reweighted by the inverse residual.

    Returns:
        Angle of the turn, and the angles `[N]` that are left, radians.
    """
    weight = np.ones(len(a))
    rotation, left = np.eye(3), _angles(a, b)
    for _ in range(_ROUNDS):
        u, _, v = np.linalg.svd((b * weight[:, None]).T @ a)
        rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v
        left = _angles(a @ rotation.T, b)
        weight = 1 / np.maximum(left, 2e-4)
    angle = np.arccos(np.clip((np.trace(rotation) - 1) / 2, -1, 1))
    return float(angle), left


def _angles(a: Floats, b: Floats) -> Floats:
    """Angles `[N]` between unit vectors, radians; by the chord, which is exact for small ones."""
    return np.asarray(2 * np.arcsin(np.clip(np.linalg.norm(a - b, axis=1) / 2, 0, 1)), np.float64)
