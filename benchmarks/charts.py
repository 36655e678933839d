"""Lines over numbers, drawn with OpenCV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

COLORS = ((200, 80, 0), (0, 110, 220), (60, 150, 0), (150, 0, 150), (90, 90, 90))
WIDTH, HEIGHT, MARGIN = 640, 360, 60
_BLACK = (0, 0, 0)


def chart(
    title: str, curves: Mapping[str, Sequence[tuple[float, float]]], digits: int = 0, dots: bool = False
) -> NDArray[np.uint8]:
    """Errors over something that starts at zero, a line for each name. `[H, W, 3]` BGR.

    Args:
        curves: (x, error) by name.
        digits: behind the point of the numbers below the x axis.
        dots: whether each measurement is marked.
    """
    picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    points = np.array([point for curve in curves.values() for point in curve], np.float64)
    last = max(float(points[:, 0].max()), 1e-9)
    low, high = float(points[:, 1].min()) - 0.01, float(points[:, 1].max()) + 0.01

    def at(x: float, error: float) -> tuple[int, int]:
        across = MARGIN + (WIDTH - 2 * MARGIN) * x / last
        return round(across), round(HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (error - low) / (high - low))

    def write(text: str, where: tuple[int, int], color: tuple[int, int, int] = _BLACK) -> None:
        cv2.putText(picture, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)

    for error in np.linspace(low, high, 5):
        cv2.line(picture, at(0, error), at(last, error), (225, 225, 225), 1)
        write(f"{error:.3f}", (4, at(0, error)[1] + 4))
    for x in np.linspace(0, last, 5):
        write(f"{x:.{digits}f}", (at(x, low)[0] - 14, HEIGHT - MARGIN + 20))
    write(title, (MARGIN, 22))
    for number, (label, curve) in enumerate(curves.items()):
        color = COLORS[number % len(COLORS)]
        line = [at(*point) for point in sorted(curve)]
        cv2.polylines(picture, [np.array(line, np.int32)], False, color, 2, cv2.LINE_AA)
        for point in line if dots else ():
            cv2.circle(picture, point, 4, color, -1, cv2.LINE_AA)
        write(label, (WIDTH - MARGIN - 190, 44 + 18 * number), color)
    return picture
