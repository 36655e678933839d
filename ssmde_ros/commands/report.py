"""The report of an evaluation for people: one HTML file, and Markdown with its pictures beside it.

The HTML carries its pictures inside (base64), so that it can be mailed or archived as one file. Markdown
viewers do not show such pictures, so the Markdown points to files in the same folder.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ssmde_ros.commands.pictures import Picture, write_atomically
from ssmde_ros.commands.report_drawing import (
    bias_percent,
    depth_legend,
    depth_range,
    draw_frame,
    error_legend,
    range_plot,
)  # fmt: skip
from ssmde_ros.data.bags import Bag, Topic
from ssmde_ros.errors import SsmdeError
from ssmde_ros.evaluation import METRIC_KEYS, REGIONS, Protocol, align_frame
from ssmde_ros.evaluation.bag import BagScore, Predictor, labelled_frames, telling_frames

HTML_NAME, MARKDOWN_NAME = "report.html", "report.md"
_METRIC_TITLES = dict(
    zip(
        METRIC_KEYS,
        ("AbsRel ↓", "SqRel, m ↓", "RMSE, m ↓", "RMSElog ↓", "log10 ↓", "δ<1.25 ↑", "δ<1.25² ↑", "δ<1.25³ ↑"),
        strict=True,
    )
)
_METRICS_NOTE = (
    "Mean over frames, each counted once. The prediction is aligned once per frame, on all of its pixels; static "
    "and dynamic pixels are scored under that one alignment. A frame without moving pixels is not in the dynamic mean."
)
_RANGE_NOTE = (
    "Over all counted pixels of all frames, each once. Bias is that of the median pixel: "
    "+ is predicted too far, − too near."
)
_PICTURES_NOTE = (
    "Prediction (aligned) and truth share one scale of colors in all pictures. Dots of sparse truth are drawn "
    "larger than they are."
)
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 1280px; margin: 2em auto;
  padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }
th, td { padding: .3em .8em; border-bottom: 1px solid #ddd; text-align: right }
th:first-child, td:first-child { text-align: left }
.facts td { text-align: left }
img, svg { max-width: 100%; height: auto }
figure { margin: 2em 0 } figcaption { font-weight: 600; margin-bottom: .4em } .note { color: #555; max-width: 60em }
"""

Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Heading and rows."""


@dataclass(frozen=True)
class FramePicture:
    """One frame of a report.

    Attributes:
        name: of its file, without suffix.
        caption: what it is.
        jpeg: the picture, encoded.
    """

    name: str
    caption: str
    jpeg: bytes


@dataclass(frozen=True)
class Report:
    """All that a report says.

    Attributes:
        facts: weights, data, protocol and the like, in the order shown.
        score: the numbers.
        frames: pictures of some frames.
        limits: of the colors of depth, metres.
        outlined: whether moving objects are outlined in the pictures.
    """

    facts: dict[str, str]
    score: BagScore
    frames: list[FramePicture]
    limits: tuple[float, float]
    outlined: bool = False


def make_report(
    facts: dict[str, str],
    score: BagScore,
    bag: Bag,
    topics: tuple[Topic, str, str | None],
    predict: Predictor,
    protocol: Protocol,
) -> Report:
    """Draw the best, the median and the worst frame; they are read and predicted anew rather than all kept.

    Args:
        facts: see `Report`.
        score: of this bag, predictor and protocol.
        bag: open.
        topics: of images, depth and masks, as for `labelled_frames`.
        predict, protocol: as they were scored.
    """
    chosen = telling_frames(score)
    kept = {}
    for frame in labelled_frames(bag, *topics, wanted=set(chosen.values())):
        aligned = None if frame.truth is None else align_frame(predict(frame.image.image), frame.truth, protocol)
        if aligned is not None:
            kept[frame.number] = frame, aligned
    limits = depth_range([aligned for _, aligned in kept.values()])
    pictures = []
    for name, number in chosen.items():
        frame, aligned = kept[number]
        assert frame.truth is not None  # scored frames have it
        drawn = draw_frame(frame.image.image, aligned, frame.truth, frame.moving_like_truth(), limits)
        error = score.by_frame[number].metrics["full"]
        caption = f"{name}: frame {number}, AbsRel {error['abs_rel']:.4f}, δ<1.25 {error['d1']:.4f}"
        pictures.append(FramePicture(f"{name}_frame", caption, _jpeg(drawn)))
    return Report(facts, score, pictures, limits, outlined=topics[2] is not None)


def _jpeg(picture: Picture) -> bytes:
    good, code = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not good:
        raise ValueError("OpenCV cannot encode JPEG")
    return bytes(np.asarray(code).tobytes())


def report_folder(folder: Path) -> Path:
    """Make the folder of a report, early: nobody wants to learn after an hour that it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / ".writable", b"")
        (folder / ".writable").unlink()
    except OSError as error:
        raise SsmdeError(f"report folder {folder} cannot be written ({error.strerror})") from error
    return folder


def write_report(folder: Path, report: Report) -> Path:
    """Write the report and its pictures, each file whole or not at all; returns the HTML file."""
    for picture in report.frames:
        write_atomically(folder / f"{picture.name}.jpg", picture.jpeg)
    drawings = _drawings(report)
    for name, drawing in drawings.items():
        write_atomically(folder / f"{name}.svg", drawing.encode())
    write_atomically(folder / MARKDOWN_NAME, markdown(report).encode())
    write_atomically(folder / HTML_NAME, page(report, drawings).encode())
    return folder / HTML_NAME


def metrics_table(score: BagScore) -> Table:
    """Regions down, metrics across."""
    rows = []
    for region in (name for name in REGIONS if name in score.regions):
        found = score.regions[region]
        numbers = [f"{found.metrics[key]:.4f}" if found.metrics else "–" for key in METRIC_KEYS]
        rows.append([region, str(found.frames), str(found.pixels), *numbers])
    return ("pixels of", "frames", "pixels", *_METRIC_TITLES.values()), rows


def range_table(score: BagScore) -> Table:
    """Range bins down."""
    total = sum(bin_.pixels for bin_ in score.bins)

    def told(value: float | None, form: str) -> str:
        return "–" if value is None else form.format(value)

    rows = [
        [
            f"{bin_.near:.3g} – {bin_.far:.3g}",
            str(bin_.pixels),
            f"{100 * bin_.pixels / total:.2f}",
            told(bin_.abs_rel, "{:.4f}"),
            told(bin_.d1, "{:.4f}"),
            told(bias_percent(bin_), "{:+.1f}"),
        ]
        for bin_ in score.bins
    ]
    return ("true range, m", "pixels", "pixels, %", "AbsRel ↓", "δ<1.25 ↑", "bias, %"), rows


def _drawings(report: Report) -> dict[str, str]:
    return {
        "error_by_range": range_plot(report.score.bins),
        "depth_colors": depth_legend(report.limits),
        "error_colors": error_legend(),
    }


def _pictures_note(report: Report) -> str:
    return _PICTURES_NOTE + (" Moving objects are outlined in magenta in the input." if report.outlined else "")


def markdown(report: Report) -> str:
    """The report as Markdown, its pictures as files beside it."""
    lines = ["# Depth evaluation", "", *_markdown_table((("", ""), list(report.facts.items())), "-")]
    lines += ["", "## Errors", "", *_markdown_table(metrics_table(report.score)), "", _METRICS_NOTE]
    lines += ["", "## Errors by range", "", "![error against range](error_by_range.svg)", ""]
    lines += [*_markdown_table(range_table(report.score)), "", _RANGE_NOTE, "", "## Frames", ""]
    lines += [_pictures_note(report), "", "![colors of depth](depth_colors.svg)", ""]
    lines += ["![colors of the error](error_colors.svg)", ""]
    for picture in report.frames:
        lines += [f"**{_plain(picture.caption)}**", "", f"![{picture.name}]({picture.name}.jpg)", ""]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text without a meaning in Markdown or HTML."""
    return re.sub(r"([\\`*_\[\]|#])", r"\\\1", html.escape(text, quote=False).replace("\n", " "))


def _markdown_table(table: Table, rule: str = "-:") -> list[str]:
    heading, rows = table
    lines = ["| " + " | ".join(map(_plain, row)) + " |" for row in (heading, *rows)]
    return [lines[0], "| " + " | ".join(["-", *[rule] * (len(heading) - 1)]) + " |", *lines[1:]]


def page(report: Report, drawings: dict[str, str]) -> str:
    """The report as one HTML page that needs no other file."""
    figures = [
        f"<figure><figcaption>{html.escape(picture.caption)}</figcaption>"
        f'<img alt="input, prediction, truth and error map" src="data:image/jpeg;base64,'
        f'{base64.b64encode(picture.jpeg).decode()}"></figure>'
        for picture in report.frames
    ]
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width"><title>Depth evaluation</title>',
        f"<style>{STYLE}</style></head><body><h1>Depth evaluation</h1>",
        html_table(((), list(report.facts.items())), ' class="facts"'),
        f'<h2>Errors</h2>{html_table(metrics_table(report.score))}<p class="note">{_METRICS_NOTE}</p>',
        f"<h2>Errors by range</h2>{drawings['error_by_range']}{html_table(range_table(report.score))}",
        f'<p class="note">{_RANGE_NOTE}</p><h2>Frames</h2><p class="note">{_pictures_note(report)}</p>',
        f"<p>{drawings['depth_colors']} {drawings['error_colors']}</p>",
        *figures,
        "</body></html>\n",
    ]
    return "\n".join(parts)


def html_table(table: Table, attributes: str = "") -> str:
    """A table as HTML, its cells escaped; `attributes` go into its tag."""
    heading, rows = table
    head = "<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in heading) + "</tr>" if heading else ""
    body = ("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table{attributes}>{head}{''.join(body)}</table>"
