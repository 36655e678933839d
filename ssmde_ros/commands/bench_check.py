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
    """Every median of a report over the reference's of the same run: what is left is the same on a busy machine.

    Stages of the live path are divided by the reference at the first size.
    """
    found = {}
    for size, rows in report["sizes"].items():
        for name, row in rows.items():
            if name != REFERENCE:
                found[f"{size} {name}"] = row["median_ms"] / rows[REFERENCE]["median_ms"]
    first = next(iter(report["sizes"].values()))[REFERENCE]["median_ms"]
    found |= {stage.removesuffix("_ms"): row["median_ms"] / first for stage, row in report["stages"].items()}
    return {name: round(value, 4) for name, value in found.items()}


def write_baseline(report: dict[str, Any], path: Path) -> None:
    """Keep the ratios of a run to compare later ones with."""
    facts = {"machine": report["machine"], "threads": report["threads"], "weights": report["weights"]}
    write_atomically(path, (json.dumps(facts | {"ratios": ratios(report)}, indent=2) + "\n").encode())


def check(report: dict[str, Any], path: Path, tolerance: float = TOLERANCE) -> tuple[list[str], bool]:
    """Compare a run with a baseline.

    Returns:
        Lines to print, and whether nothing is slower than the baseline by more than `tolerance`.

    Raises:
        SsmdeError: the baseline cannot be read, or has nothing in common with the run.
    """
    try:
        baseline = json.loads(path.read_text())["ratios"]
        baseline = {str(name): float(value) for name, value in baseline.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SsmdeError(f"{path} is no baseline ({error}): write one with --baseline") from error
    now = ratios(report)
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
