"""Feature tracks: points of the world followed through many frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ssmde_ros.data.matching import Features, match_indices

Floats = NDArray[np.float64]

GAPS = (1, 2, 4, 6, 8, 12, 16, 24)  # frames; the short ones keep a track alive, the long ones give it parallax
_EPIPOLAR = 1.5  # pixels of a 500-pixel lens that a match may be off its epipolar line
_FOCAL = 500.0
_FEWEST = 20  # matches, below which two frames are not connected


@dataclass(frozen=True)
class Track:
    """One point of the world.

    Attributes:
        frames: `[K]` numbers of the frames that see it, rising.
        points: `[K, 2]` where, normalised coordinates (x/z, y/z).
    """

    frames: NDArray[np.intp]
    points: Floats


def follow_features(features: Sequence[Features], name: str = "clip", shortest: int = 4) -> list[Track]:
    """Tracks of at least `shortest` frames, the longest first.

    Matches of all pairs of frames that are `GAPS` apart, checked against the epipolar geometry of their pair, are
    joined into connected components. A component that meets a frame twice contains a wrong match and is dropped.
    """
    first = np.cumsum([0, *(len(f.points) for f in features)])
    links: list[NDArray[np.intp]] = []
    count = len(features)
    # Far pairs share much with their neighbours: every other one is enough.
    pairs = [(a, a + gap) for gap in GAPS for a in range(0, count - gap, 1 if gap < 8 else 2)]
    for a, b in tqdm(pairs, desc=f"tracks of {name}", unit="pair", disable=None):
        rows, columns = _consistent(features[a], features[b])
        links.append(np.stack([rows + first[a], columns + first[b]], 1))
    roots = _connected(int(first[-1]), np.concatenate(links) if links else np.zeros((0, 2), np.intp))
    frame_of = np.repeat(np.arange(count), np.diff(first))
    points = np.concatenate([f.points for f in features]) if count else np.zeros((0, 2))
    order = np.argsort(roots, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(roots[order])) + 1)
    tracks = [
        Track(frame_of[group], points[group])
        for group in groups
        if len(group) >= shortest and len(np.unique(frame_of[group])) == len(group)
    ]
    return sorted(tracks, key=lambda track: -len(track.frames))


def sightings(tracks: Sequence[Track], count: int) -> list[dict[int, Floats]]:
    """For each of `count` frames, where it sees which track: by its number, `[2]`."""
    seen: list[dict[int, Floats]] = [{} for _ in range(count)]
    for number, track in enumerate(tracks):
        for frame, point in zip(track.frames, track.points, strict=True):
            seen[int(frame)][number] = point
    return seen


def _consistent(a: Features, b: Features) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Matches that agree with one epipolar geometry."""
    rows, columns = match_indices(a, b)
    nothing = np.zeros(0, np.intp)
    if len(rows) < _FEWEST:
        return nothing, nothing
    points = a.points[rows] * _FOCAL, b.points[columns] * _FOCAL
    _, good = cv2.findFundamentalMat(*points, cv2.USAC_MAGSAC, _EPIPOLAR, 0.999, 1000)
    if good is None or good.sum() < _FEWEST:
        return nothing, nothing
    kept = good.ravel().astype(bool)
    return rows[kept], columns[kept]


def _connected(count: int, links: NDArray[np.intp]) -> NDArray[np.intp]:
    """Label `[count]` of each node's connected component: the smallest node in it.

    Labels are handed over the links, and then to the labels themselves, until nothing changes.
    """
    labels = np.arange(count)
    while True:
        low = np.minimum(labels[links[:, 0]], labels[links[:, 1]])
        before = labels.copy()
        for side in (0, 1):
            np.minimum.at(labels, before[links[:, side]], low)
            np.minimum.at(labels, links[:, side], low)
        labels = labels[labels]
        if np.array_equal(labels, before):
            return labels
