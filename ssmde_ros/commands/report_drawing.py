"""What a report shows: error against range and color legends as SVG, frames as pictures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.commands.pictures import Picture, titled
from ssmde_ros.evaluation import AlignedFrame, RangeBin
from ssmde_ros.runtime import color_depth

PANEL_WIDTH = 640
"""Of one panel of a frame picture, pixels."""
ERROR_FACTOR = 2.0
"""A prediction this many times too far or too near has the strongest color of the error map."""
_NO_TRUTH = (60, 60, 60)
_MOVING = (255, 0, 255)
# Too near, right, too far (BGR): blue, white, red, which color-blind people tell apart too.
_ERROR_COLORS = np.array([(172, 102, 33), (222, 197, 146), (247, 247, 247), (130, 165, 244), (43, 24, 178)], float)
_FONT = 'font-family="system-ui, sans-serif" fill="#222"'


def color_error(log_ratio: NDArray[np.floating]) -> Picture:
    """Signed errors `[H, W]` log(prediction / truth) as BGR `[H, W, 3]`; NaN, where no truth counts, is dark grey."""
    unknown = np.isnan(log_ratio)
    place = np.clip(np.where(unknown, 0, log_ratio) / math.log(ERROR_FACTOR), -1, 1)
    stops = np.linspace(-1, 1, len(_ERROR_COLORS))
    picture = np.stack([np.interp(place, stops, channel) for channel in _ERROR_COLORS.T], -1).round().astype(np.uint8)
    picture[unknown] = _NO_TRUTH
    return picture


def depth_range(frames: Sequence[AlignedFrame]) -> tuple[float, float]:
    """Nearest and farthest truth but for outliers, metres: one range of colors for all pictures of a report."""
    near = min(float(np.percentile(frame.truth, 1)) for frame in frames)
    far = max(float(np.percentile(frame.truth, 99)) for frame in frames)
    return (near, far) if far > 1.05 * near else (0.9 * near, 1.1 * near)


def draw_frame(
    image: NDArray[np.uint8],
    frame: AlignedFrame,
    truth: NDArray[np.floating],
    moving: NDArray[np.bool_] | None,
    limits: tuple[float, float],
) -> Picture:
    """Input, prediction, truth and error map of one frame, two by two.

    Args:
        image: `[h, w, 3]` RGB.
        frame: the aligned prediction.
        truth: `[H, W]` metres; 0, NaN or infinity where unknown.
        moving: `[H, W]` bool, outlined in the input; None without a mask.
        limits: of the colors of depth, metres.
    """
    height, width = truth.shape
    picture = cv2.cvtColor(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
    if moving is not None:
        outlines, _ = cv2.findContours(moving.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, _MOVING, max(1, width // 320))
    depth = frame.depth_map()
    known = np.isfinite(truth) & (truth > 0)
    error = np.full(truth.shape, np.nan)
    error[frame.counted] = np.log(frame.prediction / frame.truth)
    panels = {
        "input": picture,
        "prediction": color_depth(depth.astype(np.float32), *limits),
        "truth": color_depth(_grown(np.where(known, truth, np.nan)).astype(np.float32), *limits),
        "error": color_error(_grown(error)),
    }
    size = (PANEL_WIDTH, max(1, round(height * PANEL_WIDTH / width)))
    kind = cv2.INTER_AREA if width > PANEL_WIDTH else cv2.INTER_NEAREST
    shown = [titled(cv2.resize(panel, size, interpolation=kind), name) for name, panel in panels.items()]
    return np.vstack([np.hstack(shown[:2]), np.hstack(shown[2:])]).astype(np.uint8)


def _grown(values: NDArray[np.floating], radius: float = 3.5) -> NDArray[np.floating]:
    """Sparse maps (lidar) with each known pixel spread over its unknown neighbours: single dots cannot be seen."""
    known = ~np.isnan(values)
    if known.mean() > 0.3 or not known.any():
        return values
    distance, label = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    by_label = np.full(int(label.max()) + 1, np.nan)
    by_label[label[known]] = values[known]
    return np.where(distance <= radius, by_label[label], np.nan)


def depth_legend(limits: tuple[float, float]) -> str:
    """SVG bar of the colors of depth."""
    near, far = limits
    ramp = np.geomspace(near, far, 96, dtype=np.float32)
    ticks = [
        (place, f"{value:g}")
        for power in range(math.floor(math.log10(near)), math.ceil(math.log10(far)) + 1)
        for step in (1, 2, 5)
        # Not so close to the ends that their labels touch.
        if 0.1 < (place := math.log((value := float(f"{step}e{power}")) / near) / math.log(far / near)) < 0.9
    ]
    ticks = [(0.0, f"≤ {near:.2g}"), *ticks, (1.0, f"≥ {far:.2g}")]
    return _color_bar("depth, metres (black: unknown)", color_depth(ramp[None], near, far)[0], ticks)


def error_legend() -> str:
    """SVG bar of the colors of the error map."""
    ramp = np.linspace(-1, 1, 96) * math.log(ERROR_FACTOR)
    words = {0.5: "half as far", 0.8: "÷1.25", 1.0: "right", 1.25: "×1.25", 2.0: "twice as far"}
    ticks = [(0.5 + 0.5 * math.log(factor) / math.log(ERROR_FACTOR), word) for factor, word in words.items()]
    return _color_bar("error: predicted / true depth (dark grey: no truth counts)", color_error(ramp[None])[0], ticks)


def _color_bar(title: str, colors: NDArray[np.uint8], ticks: Sequence[tuple[float, str]]) -> str:
    width, left = 440, 40
    step = width / len(colors)
    boxes = [
        # Half a pixel of overlap, so that no seams show.
        f'<rect x="{left + i * step:.2f}" y="22" width="{step + 0.5:.2f}" height="18" fill="rgb({r},{g},{b})"/>'
        for i, (b, g, r) in enumerate(colors.tolist())
    ]
    marks = [
        f'<text x="{left + place * width:.1f}" y="55" text-anchor="middle" font-size="12" {_FONT}>{word}</text>'
        for place, word in ticks
    ]
    heading = f'<text x="{left}" y="15" font-size="13" {_FONT}>{title}</text>'
    return _svg(width + 2 * left, 62, title, [heading, *boxes, *marks])


def range_plot(bins: Sequence[RangeBin]) -> str:
    """SVG of the errors by range: one row of bars each for AbsRel, δ1, bias and the share of pixels."""
    width, left, top, row, gap = 860, 130, 24, 96, 34
    start, end = math.log(bins[0].near), math.log(bins[-1].far)
    total = sum(bin_.pixels for bin_ in bins)
    rows: list[tuple[str, str, str, Callable[[RangeBin], float | None], str]] = [
        ("AbsRel", "lower is better", "#c2410c", lambda bin_: bin_.abs_rel, "{:.2f}"),
        ("δ < 1.25", "higher is better", "#15803d", lambda bin_: bin_.d1, "{:.2f}"),
        ("bias, %", "+ is too far", "#1d4ed8", bias_percent, "{:+.0f}"),
        ("pixels, %", "of all counted", "#6b7280", lambda bin_: 100 * bin_.pixels / total, "{:.1f}"),
    ]

    def x(metres: float) -> float:
        return left + (math.log(metres) - start) / (end - start) * (width - left - 20)

    parts = []
    for index, (name, hint, color, value_of, form) in enumerate(rows):
        values = [value_of(bin_) for bin_ in bins]
        known = [value for value in values if value is not None]
        low, high = min(0.0, *known), max(0.0, *known)
        if name == "δ < 1.25":
            high = 1.0
        span = (high - low) or 1.0
        bottom = top + index * (row + gap) + row
        zero = bottom + low / span * row
        parts += [
            f'<text x="8" y="{bottom - row / 2:.1f}" font-size="14" font-weight="600" {_FONT}>{name.replace("<", "&lt;")}</text>',
            f'<text x="8" y="{bottom - row / 2 + 17:.1f}" font-size="11" {_FONT} opacity="0.7">{hint}</text>',
            f'<line x1="{left}" x2="{width - 20}" y1="{zero:.1f}" y2="{zero:.1f}" stroke="#888"/>',
        ]
        for bin_, value in zip(bins, values, strict=True):
            if value is None:
                continue
            at, wide = x(bin_.near), x(bin_.far) - x(bin_.near)
            tall = abs(value) / span * row
            y = zero - tall if value >= 0 else zero
            parts.append(
                f'<rect x="{at + 1:.1f}" y="{y:.1f}" width="{max(wide - 2, 1):.1f}" height="{tall:.1f}" fill="{color}"/>'
            )
            if wide > 24:
                label = y - 4 if value >= 0 else y + tall + 12
                parts.append(
                    f'<text x="{at + wide / 2:.1f}" y="{label:.1f}" text-anchor="middle" font-size="11" {_FONT}>'
                    f"{form.format(value)}</text>"
                )
    bottom = top + len(rows) * (row + gap)
    edges = [bins[0].near, *(bin_.far for bin_ in bins)]
    free = -math.inf
    for edge in edges:
        if x(edge) > free:  # no label over another
            parts.append(
                f'<text x="{x(edge):.1f}" y="{bottom}" text-anchor="middle" font-size="11" {_FONT}>{edge:.2g}</text>'
            )
            free = x(edge) + 26
    parts.append(
        f'<text x="{(left + width) / 2}" y="{bottom + 22}" text-anchor="middle" font-size="13" {_FONT}>'
        "true range, metres (logarithmic)</text>"
    )
    return _svg(width, bottom + 32, "error against range", parts)


def bias_percent(bin_: RangeBin) -> float | None:
    """By how much the median pixel of a bin is predicted too far (positive) or too near, per cent of its range."""
    return None if bin_.bias is None else 100 * math.expm1(bin_.bias)


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    # White behind, for viewers with a dark page.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img"><title>{title.replace("<", "&lt;")}</title>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>'
    )
