"""Two views of one scene from matched points: relative motion and triangulated depth (Hartley & Zisserman 2004, chapters 9, 11, 12).

NumPy and OpenCV: this runs once per pair of frames, outside the training step.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MIN_MATCHES = 24  # fewer say little about five degrees of freedom


@dataclass(frozen=True)
class TwoView:
    """What two views say about each other.

    Attributes:
        motion: `T_{a->b}` `[4, 4]`; the translation has unit length unless the motion was given.
        points_a, points_b: `[M, 2]`, normalised coordinates (x/z, y/z) of the points that passed every check.
        depth_a, depth_b: `[M]`, their depth in either view, in units of the translation.
        inliers: share of the matches that agree with the motion, in [0, 1].
        parallax: median angle between the two rays to a point, rotation taken out, radians.
    """

    motion: Floats
    points_a: Floats
    points_b: Floats
    depth_a: Floats
    depth_b: Floats
    inliers: float
    parallax: float

    def swapped(self) -> TwoView:
        """The same pair told from b."""
        back = np.asarray(np.linalg.inv(self.motion), np.float64)
        return TwoView(back, self.points_b, self.points_a, self.depth_b, self.depth_a, self.inliers, self.parallax)


@dataclass(frozen=True)
class TwoViewConfig:
    """Gates.

    Attributes:
        reprojection: largest reprojection error of a triangulated point, in units of the focal length.
        min_angle: smallest angle between the rays to a point, radians; below, its depth is noise.
        min_inliers: smallest share of matches that must agree before an estimated motion is believed.
        turn_prior: how far refinement may turn a known motion, radians (one standard deviation).
        shift_prior: how far it may bend its direction of travel, share of the translation (one standard deviation).
    """

    reprojection: float = 1.5 / 500
    min_angle: float = 0.01
    min_inliers: float = 0.5
    turn_prior: float = 0.02
    shift_prior: float = 0.3


def relative_motion(
    a: Floats, b: Floats, config: TwoViewConfig | None = None
) -> tuple[Floats, NDArray[np.bool_]] | None:
    """`T_{a->b}` `[4, 4]` with a translation of unit length, and the matches that agree `[N]` bool.

    Essential matrix by five points in RANSAC (Nister 2004), decomposed with the points in front of both cameras, then
    refined on all that agree.

    Args:
        a, b: matched points `[N, 2]` in normalised coordinates.

    Returns:
        None where the matches do not determine a motion: too few of them, too few that agree, or a camera that
        hardly travels, of which a translation would be invented.
    """
    config = config or TwoViewConfig()
    if len(a) < _MIN_MATCHES:
        return None
    matrix, agree = cv2.findEssentialMat(
        a, b, np.eye(3), method=cv2.USAC_MAGSAC, prob=0.9999, threshold=config.reprojection / 2, maxIters=5000
    )
    if matrix is None or matrix.shape != (3, 3):
        return None
    good = agree.ravel().astype(bool)
    if good.sum() < _MIN_MATCHES:
        return None
    # Points so far that their parallax hides in the noise lie in front or behind by chance and have no say. (OpenCV's
    # own limit, 50 baselines, leaves slow videos without a vote, and picks any of the four motions.)
    far = 1 / config.reprojection
    near, rotation, translation, *_ = cv2.recoverPose(matrix, a[good], b[good], np.eye(3), distanceThresh=far)
    if near < config.min_inliers * good.sum():
        return None
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = rotation, translation.ravel() / np.linalg.norm(translation)
    motion = refine_motion(a[good], b[good], motion, config)
    # Counted only now: what RANSAC itself holds on to may be a half of what agrees with the refined motion.
    agree = abs(_sampson(motion, a, b)) < config.reprojection / 2
    return (motion, agree) if agree.mean() >= config.min_inliers else None


def refine_motion(a: Floats, b: Floats, motion: Floats, config: TwoViewConfig, iterations: int = 10) -> Floats:
    """The motion that fits the matches best near a given one.

    Gauss-Newton on the Sampson error with Geman-McClure weights and Gaussian priors; the length of the translation,
    which matches cannot tell, stays.

    Args:
        a, b: matched points `[N, 2]`, normalised coordinates; outliers are tolerated.
        motion: `T_{a->b}` `[4, 4]` to start from.
    """
    length = float(np.linalg.norm(motion[:3, 3]))
    start = _shifted(motion, np.zeros(6))
    unit = config.reprojection / 2
    prior = np.repeat([1 / config.turn_prior, 1 / config.shift_prior], 3) ** 2
    step, moved = np.zeros(6), start
    for _ in range(iterations):
        residual = _sampson(moved, a, b) / unit
        # Half a unit is what features are off anyway: never let a near-perfect fit shrink the weights to nothing.
        spread = max(0.5, 1.4826 * float(np.median(np.abs(residual))))
        # Cauchy's slower weights leave a fifth of wrong matches enough say to turn the direction of travel by 15 degrees.
        weight = (1 + (residual / spread) ** 2) ** -2
        nudges = [_shifted(start, step + 1e-6 * axis) for axis in np.eye(6)]
        slope = np.column_stack([(_sampson(m, a, b) / unit - residual) / 1e-6 for m in nudges])
        normal = slope.T @ (weight[:, None] * slope) + np.diag(prior)
        step = step - np.linalg.solve(normal, slope.T @ (weight * residual) + prior * step)
        moved = _shifted(start, step)
    moved[:3, 3] *= length
    return moved


def _shifted(motion: Floats, step: Floats) -> Floats:
    """A motion turned by `step[:3]` and shifted by `step[3:]`, its translation brought to unit length."""
    turn, _ = cv2.Rodrigues(step[:3])
    shift = motion[:3, 3] + step[3:]
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = turn @ motion[:3, :3], shift / np.linalg.norm(shift)
    return result


def _sampson(motion: Floats, a: Floats, b: Floats) -> Floats:
    """Signed first-order epipolar distance `[N]` of matches `[N, 2]` (Hartley & Zisserman, 11.4.3)."""
    a, b = np.column_stack([a, np.ones(len(a))]), np.column_stack([b, np.ones(len(b))])
    x, y, z = motion[:3, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ motion[:3, :3]
    line_b, line_a = a @ essential.T, b @ essential
    slack = (line_b[:, :2] ** 2).sum(1) + (line_a[:, :2] ** 2).sum(1)
    return (b * line_b).sum(1) / np.sqrt(slack + 1e-18)


def triangulate(a: Floats, b: Floats, motion: Floats) -> tuple[Floats, Floats]:
    """Linear triangulation.

    Args:
        a, b: matched points `[N, 2]`, normalised coordinates.
        motion: `T_{a->b}` `[4, 4]`.

    Returns:
        points `[N, 3]` in frame a, and the larger of the two reprojection errors `[N]`, normalised
        coordinates; infinite where the point lies behind either camera.
    """
    if not len(a):
        return np.zeros((0, 3)), np.zeros(0)
    homogeneous = cv2.triangulatePoints(np.eye(4)[:3], motion[:3], a.T.copy(), b.T.copy())
    with np.errstate(divide="ignore", invalid="ignore"):
        points = (homogeneous[:3] / homogeneous[3]).T
        moved = points @ motion[:3, :3].T + motion[:3, 3]
        error = np.maximum(
            np.linalg.norm(points[:, :2] / points[:, 2:] - a, axis=1),
            np.linalg.norm(moved[:, :2] / moved[:, 2:] - b, axis=1),
        )
    behind = ~(points[:, 2] > 0) | ~(moved[:, 2] > 0) | ~np.isfinite(error)
    return points, np.where(behind, np.inf, error)


def two_view(a: Floats, b: Floats, known: Floats | None = None, config: TwoViewConfig | None = None) -> TwoView | None:
    """Motion and sparse depth of a matched pair.

    Args:
        a, b: matched points `[N, 2]`, normalised coordinates.
        known: `T_{a->b}` `[4, 4]` in metres when it is known (odometry). It is refined on the matches, within the
            priors and at its own length: clocks of odometry and camera differ by milliseconds, which a turning
            camera sees as a degree.

    Returns:
        None where the matches do not determine a motion.
    """
    config = config or TwoViewConfig()
    if known is None:
        estimate = relative_motion(a, b, config)
        if estimate is None:
            return None
        motion, agree = estimate
    else:
        if len(a) < _MIN_MATCHES or np.linalg.norm(known[:3, 3]) < 1e-6:
            return None
        motion, agree = refine_motion(a, b, known, config), np.ones(len(a), bool)
        if (triangulate(a, b, motion)[1] < config.reprojection).mean() < config.min_inliers:
            motion = known  # most matches are wrong or on moving objects: they must not bend it
    found = _gated(a[agree], b[agree], motion, float(agree.mean()), config)
    if known is None and len(found.depth_a) < _MIN_MATCHES:
        return None  # a direction of travel that hardly any parallax supports
    return found


def structure(a: Floats, b: Floats, motion: Floats, config: TwoViewConfig | None = None) -> TwoView:
    """Sparse depth of a matched pair whose motion `T_{a->b}` `[4, 4]` is settled; see `two_view`."""
    return _gated(a, b, motion, 1.0, config or TwoViewConfig())


def _gated(a: Floats, b: Floats, motion: Floats, agreeing: float, config: TwoViewConfig) -> TwoView:
    points, error = triangulate(a, b, motion)
    angle = _ray_angle(a, b, motion)
    fits = error < config.reprojection
    parallax = float(np.median(angle)) if len(angle) else 0.0
    # Where a turn explains most matches the camera stands, and what has parallax is an object that moves.
    kept = fits & (angle > config.min_angle) & (parallax > config.reprojection / 2)
    depth_b = points[kept] @ motion[2, :3] + motion[2, 3]
    share = agreeing * float(fits.mean()) if len(fits) else 0.0
    return TwoView(motion, a[kept], b[kept], points[kept, 2], depth_b, share, parallax)


def _ray_angle(a: Floats, b: Floats, motion: Floats) -> Floats:
    """Angle `[N]` between the rays to each match with the rotation taken out, radians."""
    rays_a = np.column_stack([a, np.ones(len(a))]) @ motion[:3, :3].T
    rays_b = np.column_stack([b, np.ones(len(b))])
    cross = np.linalg.norm(np.cross(rays_a, rays_b), axis=1)
    return np.arctan2(cross, (rays_a * rays_b).sum(1))
