"""`ssmde bench --html`: the figures of a run as one page with plots."""

from __future__ import annotations

import html
from typing import Any

from ssmde_ros.commands.bench_check import REFERENCE
from ssmde_ros.commands.report import STYLE, html_table

_NOTE = (
    "Bars end at the median, whiskers at the 10th and 90th percentile. All engines of a size took turns in one process, so "
    "that ratios hold on a busy machine; absolute times move."
)
_FONT = 'font-family="system-ui, sans-serif" fill="currentColor"'
_WIDTH, _LEFT, _ROW = 860, 230, 26  # pixels


def page(report: dict[str, Any]) -> str:
    """The report of `ssmde bench` as HTML that needs no other file."""
    facts = [("machine", report["machine"]), ("threads", str(report["threads"])), ("weights", report["weights"])]
    facts += [("fp32 matmul peak", f"{report['peak_gflops']} GFLOP/s")]
    facts += [("fastest", f"{report['fastest']}, {report['speedup_vs_reference']} times as fast as {REFERENCE}")]
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width"><title>Speed of the student</title>',
        f"<style>{STYLE}</style></head><body><h1>Speed of the student</h1>",
        html_table(((), facts), ' class="facts"'),
        f'<p class="note">{_NOTE}</p>',
    ]
    for size, rows in report["sizes"].items():
        ordered = dict(sorted(rows.items(), key=lambda item: -item[1]["median_ms"]))
        heading = ("", "median, ms", "times faster", "GFLOP/s", "share of peak")
        cells = [
            [name, f"{row['median_ms']:.2f}", f"{row['speedup']:.2f}", f"{row['gflops']:.0f}", f"{row['share_of_peak']:.2f}"]
            for name, row in ordered.items()
        ]  # fmt: skip
        parts += [f"<h2>{html.escape(size)}</h2>", bars(ordered), html_table((heading, cells))]
    stages = {name.removesuffix("_ms"): row for name, row in report["stages"].items()}
    parts += ["<h2>The live path at 640x480</h2>", bars(stages), "</body></html>\n"]
    return "\n".join(parts)


def bars(rows: dict[str, dict[str, float]]) -> str:
    """SVG: one bar a row, as long as its median, with whiskers."""
    longest = max(row["p90_ms"] for row in rows.values())

    def x(milliseconds: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 80) * milliseconds / longest

    parts = []
    for number, (name, row) in enumerate(rows.items()):
        top, middle = number * _ROW + 4, number * _ROW + _ROW / 2
        color = "#9ca3af" if name == REFERENCE else "#1d4ed8" if name.startswith("student") else "#6b7280"
        parts += [
            f'<text x="{_LEFT - 8}" y="{middle + 4:.1f}" font-size="13" text-anchor="end" {_FONT}>{html.escape(name)}</text>',
            f'<rect x="{_LEFT}" y="{top}" width="{x(row["median_ms"]) - _LEFT:.1f}" height="{_ROW - 8}" fill="{color}"/>',
            f'<line x1="{x(row["p10_ms"]):.1f}" x2="{x(row["p90_ms"]):.1f}" y1="{middle:.1f}" y2="{middle:.1f}" stroke="#111"/>',
            f'<text x="{x(row["p90_ms"]) + 6:.1f}" y="{middle + 4:.1f}" font-size="12" {_FONT}>{row["median_ms"]:.2f} ms</text>',
        ]
    height = len(rows) * _ROW + 4
    return f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img">{"".join(parts)}</svg>'
