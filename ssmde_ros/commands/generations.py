"""`ssmde generations`: what fine-tuning has produced, and which of it is in use."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ssmde_ros.training.generations import Generation, Generations


def add_parser(commands: Any) -> None:
    """Add `generations` to the command line."""
    parser = commands.add_parser(
        "generations",
        help="list, promote and roll back what fine-tuning produced",
        description="Generations of a student under the output folder of `ssmde train --bag`.",
        epilog="example: ssmde generations list runs/robot",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, text, run in (
        ("list", "all generations; * marks the one in use", run_list),
        ("show", "one generation: how it was judged", run_show),
        ("promote", "use a generation, whatever it was judged", run_promote),
        ("rollback", "go back to the parent of the one in use", run_rollback),
        ("prune", "delete rejected and retired ones that nothing descends from", run_prune),
    ):
        action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        action.add_argument("out", type=Path, help="output folder of the fine-tunes")
        if name in ("show", "promote"):
            action.add_argument("number", type=int, help="of the generation")
        if name == "prune":
            action.add_argument("--keep", type=int, default=0, help="keep the last N of them (%(default)s)")
        if name in ("list", "show"):
            action.add_argument("--json", action="store_true", help="print JSON")
        action.set_defaults(run=run)


def run_list(options: argparse.Namespace) -> int:
    """One line per generation."""
    generations = Generations(options.out)
    current, found = generations.current, generations.all()
    if options.json:
        print(json.dumps([{**asdict(g), "current": g == current} for g in found], indent=2))
        return 0
    if not found:
        print(f"{generations.root} holds no generation yet")
    for each in found:
        mark = "*" if current is not None and each.number == current.number else " "
        parent = f"from {each.parent_number:04d}" if each.parent_number is not None else f"from {each.parent}"
        print(f"{mark} {each.name}  {each.state:9} {100 * each.gain:+6.1f} %  {each.identity}  {parent}  {each.reason}")
    return 0


def run_show(options: argparse.Namespace) -> int:
    """The report, or record and metrics as JSON."""
    generations = Generations(options.out)
    each = generations.get(options.number)
    folder = generations.folder(each.number)
    if options.json:
        metrics = folder / "metrics.json"
        known = json.loads(metrics.read_text("utf-8")) if metrics.is_file() else {}
        print(json.dumps({**asdict(each), "folder": str(folder), "metrics": known}, indent=2))
        return 0
    report = folder / "report.md"
    print(report.read_text("utf-8") if report.is_file() else f"generation {each.name} is {each.state}: {each.reason}")
    print(f"folder: {folder}")
    return 0


def run_promote(options: argparse.Namespace) -> int:
    """Put one to use."""
    generations = Generations(options.out)
    each = generations.promote(options.number)
    print(f"generation {each.name} is in use: {generations.weights(each)}")
    return 0


def run_rollback(options: argparse.Namespace) -> int:
    """Back to the parent."""
    generations = Generations(options.out)
    parent: Generation | None = generations.rollback()
    if parent is None:
        print("no generation is in use any more: the shipped student is")
    else:
        print(f"generation {parent.name} is in use again: {generations.weights(parent)}")
    return 0


def run_prune(options: argparse.Namespace) -> int:
    """Delete what nobody needs."""
    gone = Generations(options.out).prune(options.keep)
    print(f"deleted {len(gone)}: {', '.join(each.name for each in gone)}" if gone else "nothing to delete")
    return 0
