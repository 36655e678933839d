"""Bundle adjustment: camera poses and points that fit all tracks of a clip at once, with GTSAM.

Pair by pair, turning and sideways travel are hard to tell apart, and every pair errs in its own way; over a whole
clip each point is seen from many places, and the errors have nowhere to hide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import gtsam
import numpy as np
from gtsam import symbol
from numpy.typing import NDArray

from ssmde_ros.data.tracks import Track

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BundleConfig:
    """Noise (one standard deviation) and effort.

    Attributes:
        pixel: of a feature, in units of the focal length.
        odometry_turn: of odometry between two frames, radians.
        odometry_shift: the same, as a share of the way between them; and `odometry_slip`, metres, added to it.
        odometry_place: of a pose in the odometry's own world, metres and radians; drift is slow.
        longest: observations used per track, spread over its length.
        iterations: of Levenberg-Marquardt.
    """

    pixel: float = 1 / 500
    odometry_turn: float = 0.03
    odometry_shift: float = 0.2
    odometry_slip: float = 1e-3
    odometry_place: float = 0.1
    longest: int = 20
    iterations: int = 30


def adjust(
    poses: Mapping[int, Floats],
    points: Mapping[int, Floats],
    tracks: Sequence[Track],
    odometry: Mapping[int, Floats] | None = None,
    config: BundleConfig | None = None,
) -> tuple[dict[int, Floats], dict[int, Floats]]:
    """Refine poses and points.

    Args:
        poses: by frame, camera to world `[4, 4]`.
        points: by track, `[3]` in the world, units of the poses.
        tracks: all of them; those with a point are used, in the frames that have a pose.
        odometry: the same poses as odometry has them, in metres; None leaves origin and scale where they are.

    Returns:
        Poses and points in the same keys.

    Raises:
        RuntimeError: the observations do not determine poses and points (from GTSAM).
    """
    config = config or BundleConfig()
    graph, start = gtsam.NonlinearFactorGraph(), gtsam.Values()
    for frame, pose in poses.items():
        start.insert(symbol("x", frame), gtsam.Pose3(pose))
    if odometry is None:
        _fix_gauge(graph, poses)
    else:
        _add_odometry(graph, odometry, config)
    for number, point in points.items():
        start.insert(symbol("p", number), np.asarray(point, np.float64))
        _add_track(graph, number, tracks[number], poses, config)
    options = gtsam.LevenbergMarquardtParams.CeresDefaults()
    options.setMaxIterations(config.iterations)
    options.setRelativeErrorTol(1e-4)
    result = gtsam.LevenbergMarquardtOptimizer(graph, start, options).optimize()
    return (
        {frame: result.atPose3(symbol("x", frame)).matrix() for frame in poses},
        {number: result.atPoint3(symbol("p", number)) for number in points},
    )


def _add_track(
    graph: gtsam.NonlinearFactorGraph, number: int, track: Track, poses: Mapping[int, Floats], config: BundleConfig
) -> None:
    # Cauchy: moving objects and wrong matches lose their say, but can still earn it back.
    robust = gtsam.noiseModel.Robust.Create(
        gtsam.noiseModel.mEstimator.Cauchy.Create(1.5), gtsam.noiseModel.Isotropic.Sigma(2, config.pixel)
    )
    seen = [k for k, frame in enumerate(track.frames) if int(frame) in poses]
    if len(seen) > config.longest:
        seen = [seen[k] for k in np.linspace(0, len(seen) - 1, config.longest).round().astype(int)]
    for k in seen:
        graph.add(
            gtsam.GenericProjectionFactorCal3_S2(
                track.points[k],
                robust,
                symbol("x", int(track.frames[k])),
                symbol("p", number),
                _UNIT_LENS,
                False,
                False,
            )
        )


_UNIT_LENS = gtsam.Cal3_S2(1.0, 1.0, 0.0, 0.0, 0.0)  # tracks come in normalised coordinates


def _fix_gauge(graph: gtsam.NonlinearFactorGraph, poses: Mapping[int, Floats]) -> None:
    """Where the world begins, and how long its unit is: the first pose, and its distance to the farthest."""
    frames = sorted(poses)
    first = poses[frames[0]]
    far = max(frames, key=lambda f: float(np.linalg.norm(poses[f][:3, 3] - first[:3, 3])))
    tight = gtsam.noiseModel.Isotropic.Sigma(6, 1e-4)
    graph.add(gtsam.PriorFactorPose3(symbol("x", frames[0]), gtsam.Pose3(first), tight))
    length = float(np.linalg.norm(poses[far][:3, 3] - first[:3, 3]))
    if length > 0:
        noise = gtsam.noiseModel.Isotropic.Sigma(1, 1e-3 * length)
        graph.add(gtsam.RangeFactorPose3(symbol("x", frames[0]), symbol("x", far), length, noise))


def _add_odometry(graph: gtsam.NonlinearFactorGraph, odometry: Mapping[int, Floats], config: BundleConfig) -> None:
    frames = sorted(odometry)
    place = gtsam.noiseModel.Isotropic.Sigma(6, config.odometry_place)
    for frame in frames:
        graph.add(gtsam.PriorFactorPose3(symbol("x", frame), gtsam.Pose3(odometry[frame]), place))
    for a, b in pairwise(frames):
        step = np.linalg.inv(odometry[a]) @ odometry[b]
        shift = config.odometry_slip + config.odometry_shift * float(np.linalg.norm(step[:3, 3]))
        noise = gtsam.noiseModel.Diagonal.Sigmas(np.array([config.odometry_turn] * 3 + [shift] * 3))
        graph.add(gtsam.BetweenFactorPose3(symbol("x", a), symbol("x", b), gtsam.Pose3(step), noise))
