"""Points seen in two frames: features for the motion, dense flow for the depth once the motion is known."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ssmde_ros.data.clip import Clip, ClipError

Floats = NDArray[np.float64]

_FLOW_WIDTH = 320  # pixels; flow on larger images costs more than it gains
_FLOW_GRID = 4  # pixels between the points that flow is read at
_FLOW_CLOSURE = 1.0  # pixels that forward and backward flow may disagree by


@dataclass
class Features:
    """Keypoints in normalised coordinates `[N, 2]` and their descriptors `[N, 128]`."""

    points: Floats
    descriptors: NDArray[np.float32]


def detect(clip: Clip, count: int = 1500) -> list[Features]:
    """SIFT features (Lowe 2004) of every frame, contrast-normalised so that dark rooms have some too."""
    if not clip.tracking or clip.tracking_camera is None:
        raise ClipError(f"clip {clip.name} was read without its tracking images")
    sift, equal = cv2.SIFT.create(count, contrastThreshold=0.01), cv2.createCLAHE(2.0, (8, 8))
    camera = clip.tracking_camera
    found = []
    for image in tqdm(clip.tracking, desc=f"features of {clip.name}", unit="frame", disable=None, delay=2.0):
        keypoints, descriptors = sift.detectAndCompute(equal.apply(image), None)
        pixels = np.array([k.pt for k in keypoints], np.float64).reshape(-1, 2)
        points = (pixels - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
        empty = np.zeros((0, 128), np.float32)
        # Root-SIFT (Arandjelovic & Zisserman 2012): Hellinger distance, a better matcher at no cost.
        roots = np.sqrt(descriptors / (descriptors.sum(1, keepdims=True) + 1e-7)) if len(pixels) else empty
        found.append(Features(points, np.asarray(roots, np.float32)))
    return found


def match(a: Features, b: Features, ratio: float = 0.85) -> tuple[Floats, Floats]:
    """Matched points `[M, 2]` in either view; see `match_indices`."""
    rows, columns = match_indices(a, b, ratio)
    return a.points[rows], b.points[columns]


def match_indices(a: Features, b: Features, ratio: float = 0.85) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Mutual nearest neighbours that pass the ratio test: indices `[M]` into either view."""
    if min(len(a.points), len(b.points)) < 2:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    similar = a.descriptors @ b.descriptors.T
    best = similar.argmax(1)
    rows = np.arange(len(best))
    mutual = similar.argmax(0)[best] == rows
    top = similar[rows, best]
    similar[rows, best] = -1
    second = similar.max(1)
    # Unit vectors: squared distance is 2 - 2 cos.
    distinct = (1 - top) < ratio**2 * (1 - second)
    kept = mutual & distinct
    return rows[kept], best[kept]


class DenseFlow:
    """Matches on a grid from dense inverse search (Kroeger et al. 2016), kept where the way back leads home.

    Features cluster on texture; a wall or a cupboard door has none, but its flow is carried in from its edges.

    Attributes:
        images: the grey images, small, and `camera`, theirs.
    """

    def __init__(self, clip: Clip) -> None:
        if not clip.tracking or clip.tracking_camera is None:
            raise ClipError(f"clip {clip.name} was read without its tracking images")
        height, width = clip.tracking[0].shape
        scale = min(1.0, _FLOW_WIDTH / width)
        size = (round(width * scale), round(height * scale))
        self.camera = clip.tracking_camera.resized(*size)
        self.images = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in clip.tracking]
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        rows, columns = np.mgrid[_FLOW_GRID // 2 : size[1] : _FLOW_GRID, _FLOW_GRID // 2 : size[0] : _FLOW_GRID]
        self._grid = (rows, columns)

    def match(self, a: int, b: int) -> tuple[Floats, Floats]:
        """Matched points `[M, 2]` of frames number a and b, normalised coordinates."""
        there = self._flow.calc(self.images[a], self.images[b], None)  # type: ignore[call-overload]
        home = self._flow.calc(self.images[b], self.images[a], None)  # type: ignore[call-overload]
        rows, columns = self._grid
        start = np.stack([columns.ravel(), rows.ravel()], 1).astype(np.float64)
        step = there[rows, columns].reshape(-1, 2)
        end = start + step
        at = end.astype(np.float32)[:, None]
        back = cv2.remap(home, at[..., 0], at[..., 1], cv2.INTER_LINEAR)[:, 0]
        inside = ((end >= 0) & (end <= [self.camera.width - 1, self.camera.height - 1])).all(1)
        kept = inside & (np.linalg.norm(step + back, axis=1) < _FLOW_CLOSURE)
        camera = self.camera
        centre, focal = [camera.cx, camera.cy], [camera.fx, camera.fy]
        return (start[kept] - centre) / focal, (end[kept] - centre) / focal
