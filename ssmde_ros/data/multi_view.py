"""Points of the world seen in many frames whose poses are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssmde_ros.data.tracks import Track

Floats = NDArray[np.float64]
Poses = Mapping[int, Floats]

_LEAST_ANGLE = 0.02  # radians between the outer rays of a track; below, its depth is noise
_FITS = 3 / 500  # reprojection error of a good observation, units of the focal length


@dataclass(frozen=True)
class Piece:
    """Frames that share a world.

    Attributes:
        poses: by frame, camera to world `[4, 4]`.
        points: by number of track, `[3]` in the world.
    """

    poses: dict[int, Floats]
    points: dict[int, Floats]


def triangulated(
    tracks: Sequence[Track], poses: Poses, least: int = 3, numbers: Iterable[int] | None = None
) -> dict[int, Floats]:
    """World points `[3]`, by number of track, of those seen from far enough apart and in front of all cameras.

    Linear, from all frames at once (Hartley & Zisserman 2004, 12.2).

    Args:
        least: frames with a pose that must see a track.
        numbers: of the tracks to look at; None is all.
    """
    points = {}
    for number in range(len(tracks)) if numbers is None else numbers:
        track = tracks[number]
        seen = [k for k, frame in enumerate(track.frames) if int(frame) in poses]
        if len(seen) < least:
            continue
        views = np.stack([np.linalg.inv(poses[int(track.frames[k])])[:3] for k in seen])
        image = track.points[seen]
        rows = (image[:, :, None] * views[:, 2:3] - views[:, :2]).reshape(-1, 4)
        point = np.linalg.svd(rows)[2][-1]
        if abs(point[3]) < 1e-12:
            continue
        point = point[:3] / point[3]
        depth = views[:, 2, :3] @ point + views[:, 2, 3]
        if (depth > 0).all() and _angle(point, views) > _LEAST_ANGLE:
            points[number] = point
    return points


def _angle(point: Floats, views: Floats) -> float:
    """Largest angle between the rays to a point from the first camera and from another, radians."""
    centres = -np.einsum("kij,ki->kj", views[:, :, :3], views[:, :, 3])
    rays = point - centres
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    return float(np.arccos((rays @ rays[0]).clip(-1, 1)).max())


def _residuals(track: Track, point: Floats, poses: Poses) -> Floats:
    seen = [k for k, frame in enumerate(track.frames) if int(frame) in poses]
    views = np.stack([np.linalg.inv(poses[int(track.frames[k])])[:3] for k in seen])
    there = views[:, :, :3] @ point + views[:, :, 3]
    return np.asarray(np.linalg.norm(there[:, :2] / there[:, 2:] - track.points[seen], axis=1))


def fitting(tracks: Sequence[Track], points: Mapping[int, Floats], poses: Poses) -> dict[int, Floats]:
    """The points whose median reprojection error is small: moving objects and wrong matches are left out."""
    return {n: x for n, x in points.items() if float(np.median(_residuals(tracks[n], x, poses))) < _FITS}


def reprojection(piece: Piece, tracks: Sequence[Track]) -> Floats:
    """Reprojection errors `[M]` of all observations, units of the focal length."""
    errors = [_residuals(tracks[n], x, piece.poses) for n, x in piece.points.items()]
    return np.concatenate(errors) if errors else np.zeros(0)
