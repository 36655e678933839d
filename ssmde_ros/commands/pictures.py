"""Pictures and files that people look at: side-by-side views, a rendered cloud, PLY."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


def write_atomically(path: Path, content: bytes) -> None:
    """Write to a temporary name and rename, so that nobody ever reads half a file."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)


def write_picture(path: Path, picture: NDArray[np.generic]) -> None:
    """Write BGR `[H, W, 3]` uint8, or a depth image `[H, W]` uint16, in the format of the suffix."""
    good, code = cv2.imencode(path.suffix, picture)
    if not good:
        raise ValueError(f"OpenCV cannot encode {path.suffix}")
    write_atomically(path, code.tobytes())


def write_ply(path: Path, points: NDArray[np.float32]) -> int:
    """Write a cloud `[N, 4]` (x, y, z in metres and the packed `rgb` of a PointCloud2) as binary PLY.

    Returns:
        The number of points written; those that are not finite are left out.
    """
    points = np.ascontiguousarray(points[np.isfinite(points[:, :3]).all(1)])
    vertex = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
    vertices = np.empty(len(points), vertex)
    vertices["xyz"] = points[:, :3]
    vertices["rgb"] = points.view(np.uint8).reshape(-1, 16)[:, [14, 13, 12]]
    names = [f"property float {axis}" for axis in "xyz"] + [f"property uchar {c}" for c in ("red", "green", "blue")]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}", *names, "end_header", ""]
    write_atomically(path, "\n".join(header).encode() + vertices.tobytes())
    return len(points)


def render_cloud(points: NDArray[np.float32], size: tuple[int, int], turn: float = 0.3, tilt: float = 0.35) -> Picture:
    """A cloud seen from beside and above the camera: what is flat or smeared shows at once.

    Args:
        points: `[N, 4]` as in `write_ply`, optical frame.
        size: of the picture, (height, width) pixels.
        turn, tilt: how far the view swings round the middle of the cloud, radians.

    Returns:
        `[H, W, 3]` BGR on dark grey.
    """
    points = np.ascontiguousarray(points[np.isfinite(points[:, :3]).all(1)])
    canvas = np.full((*size, 3), 30, np.uint8)
    if len(points) == 0:
        return canvas
    colors = points.view(np.uint8).reshape(-1, 16)[:, 12:15]
    xyz = points[:, :3].astype(np.float64)
    keep = xyz[:, 2] < 1.5 * np.percentile(xyz[:, 2], 85)
    xyz, colors = xyz[keep], colors[keep]
    pivot = np.median(xyz, axis=0)
    ct, st, cp, sp = np.cos(turn), np.sin(turn), np.cos(tilt), np.sin(tilt)
    swing = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]) @ np.array([[ct, 0, st], [0, 1, 0], [-st, 0, ct]])
    seen = (xyz - pivot) @ swing.T + [0, 0, 1.25 * pivot[2]]
    front = seen[:, 2] > 0.15 * pivot[2]
    seen, colors = seen[front], colors[front]
    order = np.argsort(-seen[:, 2])
    rays, colors = seen[order, :2] / seen[order, 2:], colors[order]
    # Zoom so that all but the outermost points are in view.
    low, high = np.percentile(rays, [3, 97], axis=0)
    zoom = 0.9 * float(np.min(np.array([size[1], size[0]]) / np.maximum(high - low, 1e-6)))
    u, v = ((rays - (low + high) / 2) * zoom + [size[1] / 2, size[0] / 2]).astype(int).T
    # Far to near, a few pixels wide: the nearest point wins and small gaps close.
    splat = range(max(2, size[0] // 180))
    for du, dv in itertools.product(splat, splat):
        inside = (u + du >= 0) & (u + du < size[1]) & (v + dv >= 0) & (v + dv < size[0])
        canvas[v[inside] + dv, u[inside] + du] = colors[inside]
    return canvas


def titled(picture: Picture, title: str) -> Picture:
    """A copy with a line of text in the upper left corner."""
    picture = picture.copy()
    scale = 0.8 * max(picture.shape[1] / 900, 0.5)
    (width, height), _ = cv2.getTextSize(title, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    cv2.rectangle(picture, (0, 0), (width + 16, height + 16), (0, 0, 0), cv2.FILLED)
    cv2.putText(picture, title, (8, height + 8), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return picture


def side_by_side(pictures: list[Picture]) -> Picture:
    """Pictures of one height in a row; wide ones are stacked."""
    height, width = pictures[0].shape[:2]
    join = np.vstack if width > 2 * height else np.hstack
    return np.asarray(join(pictures), np.uint8)
