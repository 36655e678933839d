"""Dense depth of a pair whose motion is known: rectified and matched semi-globally (Hirschmueller 2008), with OpenCV.

Optical flow smears the motion of a near edge over the blank wall behind it, and every pair of frames smears the
same way. Along known epipolar lines the search has one dimension, and the penalty for a step in depth is lower where
the image has an edge: outlines stay where they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.geometry import PinholeCamera, TwoView

Floats = NDArray[np.float64]
Grey = NDArray[np.uint8]


@dataclass(frozen=True)
class StereoConfig:
    """Gates and effort.

    Attributes:
        most_forward: largest share of the travel along the optical axis; beyond it lines of sight meet the
            epipole, and the images cannot be rectified.
        block: side of the matching window, pixels.
        uniqueness: margin by which the best match must beat the second, percent.
        closure: pixels that matching from left and from right may disagree by.
        speckle: regions of fewer pixels are dropped.
        grid: pixels between the points that are read.
        least: smallest disparity that is depth rather than noise, pixels.
        most: largest disparity searched, pixels.
    """

    most_forward: float = 0.7
    block: int = 3
    uniqueness: int = 10
    closure: int = 1
    speckle: int = 100
    grid: int = 4
    least: float = 2.0
    most: int = 128


def stereo(
    a: Grey, b: Grey, camera: PinholeCamera, motion: Floats, nearest: float, config: StereoConfig | None = None
) -> TwoView | None:
    """Depth on a grid of view a.

    Args:
        a, b: rectified grey images `[H, W]` of `camera`.
        motion: `T_{a->b}` `[4, 4]`, settled.
        nearest: smallest depth to look for, units of the translation.

    Returns:
        None where the camera travels along its optical axis, or hardly at all.
    """
    config = config or StereoConfig()
    turned = _rectified_axes(motion, config.most_forward)
    length = float(np.linalg.norm(motion[:3, 3]))
    if turned is None or length == 0:
        return None
    # A turn about the optical axis (travel up or down) needs room for the corners.
    side = int(np.ceil(np.hypot(camera.width, camera.height) / 16) * 16)
    lens = np.array([[camera.fx, 0, (side - 1) / 2], [0, camera.fx, (side - 1) / 2], [0, 0, 1]])
    own = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    to_a, to_b = turned, turned @ motion[:3, :3].T
    left, right = (_seen(image, own, turn, lens, side) for image, turn in ((a, to_a), (b, to_b)))
    wanted = camera.fx * length / max(nearest, 1e-9)
    count = int(min(config.most, max(16, 16 * np.ceil(wanted / 16))))
    disparity = _matched(left, right, count, config)
    return _points(disparity, lens, own, to_a, motion, camera, length, config)


def _rectified_axes(motion: Floats, most_forward: float) -> Floats | None:
    """Rotation `[3, 3]` from view a to axes whose x points to camera b and whose z looks where both cameras look."""
    centre_b = -motion[:3, :3].T @ motion[:3, 3]
    length = float(np.linalg.norm(centre_b))
    if length == 0:
        return None
    x = centre_b / length
    ahead = np.array([0.0, 0.0, 1.0]) + motion[2, :3]
    ahead /= np.linalg.norm(ahead)
    if abs(ahead @ x) > most_forward:
        return None
    z = ahead - (ahead @ x) * x
    z /= np.linalg.norm(z)
    return np.stack([x, np.cross(z, x), z])


def _seen(image: Grey, own: Floats, turn: Floats, lens: Floats, side: int) -> Grey:
    view = lens @ turn @ np.linalg.inv(own)
    return np.asarray(cv2.warpPerspective(image, view, (side, side), flags=cv2.INTER_LINEAR), np.uint8)


def _matched(left: Grey, right: Grey, count: int, config: StereoConfig) -> Floats:
    """Disparity `[H, W]` in pixels, NaN where it is not known."""
    area = config.block**2
    matcher = cv2.StereoSGBM.create(
        0, count, config.block, 8 * area, 32 * area, config.closure, 31, config.uniqueness, config.speckle, 2,
        cv2.STEREO_SGBM_MODE_SGBM_3WAY,
    )  # fmt: skip
    # The matcher knows nothing left of `count` columns: give it a margin there.
    wide = [cv2.copyMakeBorder(image, 0, 0, count, 0, cv2.BORDER_CONSTANT) for image in (left, right)]
    found = matcher.compute(*wide)[:, count:].astype(np.float64) / 16
    found[(found < config.least) | (left == 0)] = np.nan
    return found


def _points(
    disparity: Floats,
    lens: Floats,
    own: Floats,
    turn: Floats,
    motion: Floats,
    camera: PinholeCamera,
    length: float,
    config: StereoConfig,
) -> TwoView:
    step = config.grid
    rows, columns = np.mgrid[step // 2 : camera.height : step, step // 2 : camera.width : step]
    pixels = np.stack([columns.ravel(), rows.ravel(), np.ones(rows.size)], 1).astype(np.float64)
    rays = pixels @ np.linalg.inv(own).T
    turned = rays @ turn.T
    ahead = turned[:, 2] > 0.1
    at = (turned / np.where(ahead, turned[:, 2], 1.0)[:, None]) @ lens.T
    side = len(disparity)
    u, v = at[:, 0].round().astype(int), at[:, 1].round().astype(int)
    inside = ahead & (u >= 0) & (u < side) & (v >= 0) & (v < side)
    shift = np.where(inside, disparity[v.clip(0, side - 1), u.clip(0, side - 1)], np.nan)
    depth = lens[0, 0] * length / shift / turned[:, 2]  # along the optical axis of a: the ray has z = 1
    points = rays * depth[:, None]
    moved = points @ motion[:3, :3].T + motion[:3, 3]
    kept = np.isfinite(depth) & _inside(moved, camera)
    points, moved = points[kept], moved[kept]
    angle = shift[kept] / lens[0, 0]
    parallax = float(np.median(angle)) if len(angle) else 0.0
    share = float(kept.mean())
    return TwoView(motion, rays[kept, :2], moved[:, :2] / moved[:, 2:], points[:, 2], moved[:, 2], share, parallax)


def _inside(points: Floats, camera: PinholeCamera, margin: float = 4.0) -> NDArray[np.bool_]:
    """Whether points `[N, 3]` in front of the camera land in its image: outside there was nothing to match."""
    ahead = points[:, 2] > 0
    image = points[:, :2] / np.where(ahead, points[:, 2], 1.0)[:, None] * [camera.fx, camera.fy]
    image += [camera.cx, camera.cy]
    far = [camera.width - 1 - margin, camera.height - 1 - margin]
    return np.asarray(ahead & (image >= margin).all(1) & (image <= far).all(1))
