"""Depth of one frame from many pairs: what at least two of them agree on."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.geometry import PinholeCamera, TwoView

Floats = NDArray[np.float64]

GRID = 4  # pixels between the points of dense depth
_AGREE = 0.1  # log depth; two pairs that differ by less mean the same
_FEWEST = 2  # pairs that must agree
_EDGE = 0.15  # log depth; a step between neighbours that is an edge and no slant
_HALO = 5  # grid cells, side of the neighbourhood


class DepthFusion:
    """Collects dense depth on a grid, frame by frame.

    A stereo or flow match that is wrong is rarely wrong in the same way for another partner; the depth that
    several partners give is the median of those that agree with it.

    Args:
        camera: of the images that dense depth was found on.
    """

    def __init__(self, camera: PinholeCamera) -> None:
        self.camera = camera
        rows, columns = np.mgrid[GRID // 2 : camera.height : GRID, GRID // 2 : camera.width : GRID]
        self._width = columns.shape[1]
        pixels = np.stack([columns.ravel(), rows.ravel()], 1).astype(np.float64)
        self._points = (pixels - [camera.cx, camera.cy]) / [camera.fx, camera.fy]
        self._maps: dict[int, list[Floats]] = {}

    def add(self, frame: int, view: TwoView, unit: float = 1.0) -> None:
        """Depth of the points in view a, which is `frame`.

        Args:
            view: its `points_a` on the grid.
            unit: length of the view's unit in that of the fused depth.
        """
        camera = self.camera
        pixels = view.points_a * [camera.fx, camera.fy] + [camera.cx, camera.cy]
        column, row = ((pixels - GRID // 2) / GRID).round().astype(int).T
        found = np.full(len(self._points), np.nan)
        found[row * self._width + column] = view.depth_a * unit
        self._maps.setdefault(frame, []).append(found)

    def fused(self, frame: int) -> tuple[Floats, Floats]:
        """Points `[K, 2]`, normalised coordinates, and their depth `[K]`."""
        if len(self._maps.get(frame, [])) < _FEWEST:
            return np.zeros((0, 2)), np.zeros(0)
        logs = np.log(np.stack(self._maps[frame]))
        seen = np.isfinite(logs).sum(0) >= _FEWEST
        logs = logs[:, seen]
        agree = np.abs(logs - np.nanmedian(logs, 0)) < _AGREE
        mean = np.where(agree, logs, 0.0).sum(0) / np.maximum(agree.sum(0), 1)
        fused = np.full(len(self._points), np.nan)
        fused[seen] = np.where(agree.sum(0) >= _FEWEST, mean, np.nan)
        kept = np.isfinite(fused) & ~self._before_an_edge(fused)
        return self._points[kept], np.exp(fused[kept])

    def _before_an_edge(self, logs: Floats) -> NDArray[np.bool_]:
        """Where something much farther is near by.

        All partners agree that the blank wall beside an edge is as near as the edge: with nothing to match, it
        gets the edge's disparity. What is next to the background may itself be background.
        """
        table = logs.reshape(-1, self._width)
        farthest = cv2.dilate(np.nan_to_num(table, nan=-np.inf).astype(np.float32), np.ones((_HALO, _HALO)))
        return np.asarray((farthest - table > _EDGE).ravel())
