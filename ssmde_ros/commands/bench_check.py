"""`ssmde bench --check`: has anything become slower than a committed baseline, as a ratio to the reference?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ssmde_ros.commands.pictures import write_atomically
from ssmde_ros.errors import SsmdeError

REFERENCE = "resnet18 torch eager"
TOLERANCE = 0.2  # relative; two cores that others share move ratios by a tenth


def ratios(report: dict[str, Any]) -> dict[str, float]:
    """Every median of a report over the reference's that took turns with it: what is left is the same on a busy machine."""
    found = {}
    for size, rows in report["sizes"].items():
        for name, row in rows.items():
            if name != REFERENCE:
                found[f"{size} {name}"] = row["median_ms"] / rows[REFERENCE]["median_ms"]
    stages = {name.removesuffix("_ms"): row["median_ms"] for name, row in report["stages"].items()}
    reference = stages.pop(REFERENCE)
    found |= {stage: milliseconds / reference for stage, milliseconds in stages.items()}
    return {name: round(value, 4) for name, value in found.items()}


def write_baseline(report: dict[str, Any], path: Path) -> None:
    """Keep the ratios of a run to compare later ones with."""
    facts = {"machine": report["machine"], "threads": report["threads"], "weights": report["weights"]}
    write_atomically(path, (json.dumps(facts | {"ratios": ratios(report)}, indent=2) + "\n").encode())


def read_baseline(path: Path) -> dict[str, float]:
    """The ratios in a file of `write_baseline`. Raises SsmdeError when it is none."""
    try:
        baseline = {str(name): float(value) for name, value in json.loads(path.read_text())["ratios"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SsmdeError(f"{path} is no baseline ({error}): write one with --baseline") from error
    if min(baseline.values(), default=0.0) <= 0:
        raise SsmdeError(f"{path} is no baseline (ratios must be positive): write one with --baseline")
    return baseline


def check(report: dict[str, Any], path: Path, tolerance: float = TOLERANCE) -> tuple[list[str], bool]:
    """Compare a run with a baseline.

    Returns:
        Lines to print, and whether nothing is slower than the baseline by more than `tolerance`.

    Raises:
        SsmdeError: the baseline cannot be read, or has nothing in common with the run.
    """
    baseline, now = read_baseline(path), ratios(report)
    shared = [name for name in baseline if name in now]
    if not shared:
        raise SsmdeError(f"{path} has nothing in common with what runs here: write one with --baseline")
    width = max(map(len, baseline))
    lines, good = [f"{'time over the reference':{width}}  baseline     now  change"], True
    for name, before in baseline.items():
        if name not in now:
            lines.append(f"{name:{width}}  {before:8.4f}       -  not run here")
            continue
        change = now[name] / before - 1
        slower = change > tolerance
        good = good and not slower
        lines.append(f"{name:{width}}  {before:8.4f}{now[name]:8.4f}  {change:+6.0%}{'  slower' if slower else ''}")
    return lines, good
