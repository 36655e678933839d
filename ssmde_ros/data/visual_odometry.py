"""Visual odometry without a prior: one frame after another joins, and all are adjusted together now and then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.data.bundle import BundleConfig, adjust
from ssmde_ros.data.multi_view import Piece, fitting, triangulated
from ssmde_ros.data.tracks import Track, sightings
from ssmde_ros.geometry import two_view

Floats = NDArray[np.float64]

_SEED_GAPS = (2, 4, 8, 16)  # frames between the two that begin a piece
_SEEDS = 40  # places in the clip where a beginning is tried
_LEAST_PARALLAX = 0.02  # radians, median over the points of the first pair
_FEWEST_POINTS = 24  # that a joining frame must see, and agree with
_FEWEST_FRAMES = 5
_AGREE = 3 / 500  # reprojection error in the search for a pose, units of the focal length
_GROWTH = 1.5  # the piece is adjusted each time it has grown by this factor


def pieces(tracks: Sequence[Track], count: int) -> Iterator[Piece]:
    """Frames joined into worlds, the best beginning first.

    Args:
        count: frames of the clip.

    Yields:
        Pieces of at least five frames. The scale of each is such that its first pair is one unit apart.
    """
    seen = sightings(tracks, count)
    free = set(range(count))
    while len(free) >= _FEWEST_FRAMES:
        first = _first_pair(seen, free)
        if first is None:
            return
        growing = _Growing(tracks, seen, first)
        growing.grow(free)
        free -= set(growing.poses)
        if len(growing.poses) >= _FEWEST_FRAMES:
            yield Piece(growing.poses, growing.points)


def _first_pair(seen: list[dict[int, Floats]], free: set[int]) -> dict[int, Floats] | None:
    """Poses of the two free frames that say most about each other."""
    best, chosen = 0.0, None
    frames = sorted(free)
    for a in frames[:: max(1, len(frames) // _SEEDS)]:
        for b in (a + gap for gap in _SEED_GAPS if a + gap in free):
            shared = [n for n in seen[a] if n in seen[b]]
            if len(shared) < 2 * _FEWEST_POINTS:
                continue
            found = two_view(np.array([seen[a][n] for n in shared]), np.array([seen[b][n] for n in shared]))
            if found is None or found.parallax < _LEAST_PARALLAX:
                continue
            worth = len(found.depth_a) * min(found.parallax, 0.1)
            if worth > best:
                best, chosen = worth, {a: np.eye(4), b: np.asarray(np.linalg.inv(found.motion), np.float64)}
    return chosen


@dataclass
class _Growing:
    """A piece that frames join."""

    tracks: Sequence[Track]
    sightings: list[dict[int, Floats]]
    poses: dict[int, Floats]
    points: dict[int, Floats] = field(default_factory=dict)

    def grow(self, free: set[int]) -> None:
        """Let frames in until none that is left fits."""
        self.points = triangulated(self.tracks, self.poses, least=2)
        adjusted = len(self.poses)
        refused: set[int] = set()
        while True:
            waiting = {f: len(self._seen(f)) for f in free - refused - set(self.poses)}
            frame = max(waiting, key=lambda f: waiting[f], default=None)
            if frame is None or waiting[frame] < _FEWEST_POINTS:
                if adjusted == len(self.poses) or not self._adjust():
                    return
                adjusted, refused = len(self.poses), set()  # better points may let more frames in
                continue
            pose = self._pose(frame)
            if pose is None:
                refused.add(frame)
                continue
            self.poses[frame] = pose
            fresh = [n for n in self.sightings[frame] if n not in self.points]
            self.points |= fitting(self.tracks, triangulated(self.tracks, self.poses, 2, fresh), self.poses)
            if len(self.poses) >= _GROWTH * adjusted:
                if not self._adjust():
                    return
                adjusted = len(self.poses)

    def _seen(self, frame: int) -> list[int]:
        return [n for n in self.sightings[frame] if n in self.points]

    def _pose(self, frame: int) -> Floats | None:
        """Camera to world `[4, 4]` from points that have a place already."""
        seen = self._seen(frame)
        there = np.array([self.points[n] for n in seen])
        here = np.array([self.sightings[frame][n] for n in seen])
        ok, turn, shift, agree = cv2.solvePnPRansac(
            there, here, np.eye(3), None, iterationsCount=200, reprojectionError=_AGREE, confidence=0.999,
            flags=cv2.SOLVEPNP_SQPNP,
        )  # fmt: skip
        if not ok or agree is None or len(agree) < max(_FEWEST_POINTS, len(seen) // 2):
            return None
        kept = agree.ravel()
        turn, shift = cv2.solvePnPRefineLM(there[kept], here[kept], np.eye(3), None, turn, shift)
        view = np.eye(4)
        view[:3, :3], view[:3, 3] = cv2.Rodrigues(turn)[0], shift.ravel()
        return np.asarray(np.linalg.inv(view), np.float64)

    def _adjust(self) -> bool:
        try:
            poses, _ = adjust(self.poses, self.points, self.tracks, config=BundleConfig(iterations=10))
        except RuntimeError:  # GTSAM's word for points that do not hold the frames together: stop with what there is
            return False
        self.poses = poses
        least = 2 if len(poses) < _FEWEST_FRAMES else 3
        self.points = fitting(self.tracks, triangulated(self.tracks, poses, least), poses)
        return len(self.points) >= _FEWEST_POINTS
