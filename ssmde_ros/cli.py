"""The `ssmde` command: the same code paths as the nodes, for people without a graph."""

from __future__ import annotations

import argparse
import logging
import sys

from ssmde_ros import __version__
from ssmde_ros.commands import bag, bench, demo, depth, evaluate, export, generations, import_weights, train
from ssmde_ros.errors import SsmdeError


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="ssmde",
        description="Dense depth from one camera (SS-MDE), live in ROS 2 and on files.",
        epilog="Start with `ssmde demo`; then `ssmde depth my_video.mp4 -o out`.",
    )
    parser.add_argument("--version", action="version", version=f"ssmde_ros {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in (demo, depth, bag, evaluate, train, generations, import_weights, export, bench):
        module.add_parser(commands)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        What the command returns, mostly 0; 1 after one line on stderr that says what was wrong; 130 after Ctrl-C.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    options = build_parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        return status
    except SsmdeError as error:
        print(f"ssmde: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ssmde: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
