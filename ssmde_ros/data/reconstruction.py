"""Camera poses of a whole clip from its tracks: odometry refined where there is one, visual odometry elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssmde_ros.data.bundle import adjust
from ssmde_ros.data.clip import Clip
from ssmde_ros.data.multi_view import Piece, fitting, reprojection, triangulated
from ssmde_ros.data.tracks import Track
from ssmde_ros.data.visual_odometry import pieces

_log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

_FEWEST_TRACKS = 100  # fewer say little about six degrees of freedom per frame
_PER_FRAME = 16  # tracks used per frame of the clip, the longest first


@dataclass(frozen=True)
class Reconstruction:
    """Where the camera was.

    Attributes:
        poses: `[N, 4, 4]` camera to world.
        piece: `[N]` frames of one number share a world and a scale; -1 where the pose is not known.
        metric: whether the scale is that of odometry, metres.
        error: median reprojection error, units of the focal length.
    """

    poses: Floats
    piece: NDArray[np.intp]
    metric: bool
    error: float

    def motion(self, target: int, source: int) -> Floats | None:
        """`T_{t->s}` `[4, 4]`; None where it is not known."""
        if self.piece[target] < 0 or self.piece[target] != self.piece[source]:
            return None
        return np.asarray(np.linalg.inv(self.poses[source]) @ self.poses[target])


def reconstruct(clip: Clip, tracks: Sequence[Track]) -> Reconstruction | None:
    """Poses of a clip.

    With odometry all frames that it covers are refined together; it keeps the scale. Without, visual odometry joins
    frames into pieces, each with a scale of its own.

    Returns:
        None where tracks do not determine poses: too few, or a camera that hardly travels.
    """
    tracks = tracks[: _PER_FRAME * len(clip)]
    if len(tracks) < _FEWEST_TRACKS:
        return None
    if clip.poses is not None and clip.pose_known is not None:
        known = {int(i): clip.poses[i] for i in np.flatnonzero(clip.pose_known)}
        found = [_refined(known, tracks)]
    else:
        found = list(pieces(tracks, len(clip)))
    poses, piece = np.tile(np.eye(4), (len(clip), 1, 1)), np.full(len(clip), -1, np.intp)
    errors = []
    for number, part in enumerate(part for part in found if part is not None):
        for frame, pose in part.poses.items():
            poses[frame], piece[frame] = pose, number
        errors.append(reprojection(part, tracks))
    if not errors:
        return None
    result = Reconstruction(poses, piece, clip.poses is not None, float(np.median(np.concatenate(errors))))
    _report(clip, result)
    return result


def _refined(odometry: dict[int, Floats], tracks: Sequence[Track]) -> Piece | None:
    """Odometry adjusted to the tracks, twice: wrong matches of the first round sit the second one out."""
    points = triangulated(tracks, odometry)
    if len(points) < _FEWEST_TRACKS:
        return None
    poses = odometry
    try:
        for _ in range(2):
            poses, points = adjust(poses, points, tracks, odometry)
            points = fitting(tracks, triangulated(tracks, poses), poses)
            if len(points) < _FEWEST_TRACKS:
                return None  # hardly a track agrees: they would bend the odometry, and nothing would tell by how much
    except RuntimeError as error:
        _log.warning("odometry could not be refined on the images: %s", " ".join(str(error).split())[:200])
        return None
    return Piece(poses, points)


def _report(clip: Clip, found: Reconstruction) -> None:
    known = found.piece[found.piece >= 0]
    _log.info(
        "%s: poses of %d of %d frames in %d piece(s) from %s; tracks fit to %.2f px of a 500 px lens",
        clip.name, len(known), len(clip), len(np.unique(known)),
        "odometry, refined" if found.metric else "visual odometry", 500 * found.error,
    )  # fmt: skip
