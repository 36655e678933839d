"""`ssmde import`: published checkpoints of other projects as weights for everything here."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import load_depth_net, save_depth_net


def add_parser(commands: Any) -> None:
    """Add `import` to the command line."""
    parser = commands.add_parser(
        "import",
        help="bring a published checkpoint (monodepth2, SC-Depth, Lite-Mono) along",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Writes a published checkpoint as a weights file for `ssmde depth`, `ssmde eval`, `ssmde train --start` and\n"
            "the depth node. Nothing in the checkpoint is executed; one missing or foreign tensor refuses it.\n\n"
            "  monodepth2    the folder with encoder.pth and depth.pth (ResNet-18)\n"
            "  Lite-Mono     the folder with encoder.pth and depth.pth (all four, trained at 640x192 or 1024x320)\n"
            "  SC-Depth      the Lightning checkpoint of v1, v2 or v3 (ResNet-18 or ResNet-50)\n\n"
            "Mind the licence that the checkpoint came with: the written file is under the same one."
        ),
        epilog="example: ssmde import mono_640x192 -o mono.safetensors && ssmde depth drive.mp4 --weights mono.safetensors",
    )
    parser.add_argument("source", type=Path, help="folder or file")
    parser.add_argument("-o", "--out", type=Path, required=True, help="weights file to write, .safetensors")
    parser.add_argument("--size", type=size_argument, help="WxH it was trained at, where the checkpoint does not tell")
    parser.add_argument("--licence", default="", help="of the checkpoint, for the provenance in the file")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read, write, and say what it is."""
    from ssmde_ros.networks.published import read_published

    if options.out.suffix != ".safetensors":
        raise SsmdeError(f"--out {options.out}: weights files end in .safetensors")
    try:
        found = read_published(options.source, options.size)
    except ValueError as error:
        raise SsmdeError(f"--size: {error}") from error
    provenance = {
        "imported": found.family,
        "source": options.source.name,
        "licence": options.licence or "of the source",
    }
    try:
        save_depth_net(found.net, options.out, provenance)
    except OSError as error:
        raise SsmdeError(f"{options.out} cannot be written: {error.strerror}") from error
    info = load_depth_net(options.out)[1]
    config = info.config
    size = f"{config.input_width}x{config.input_height}"
    guessed = "" if found.size_known or options.size else " (assumed; --size says otherwise)"
    print(
        f"{found.family}, {config.encoder}, {size}{guessed}, {config.scale_kind} depth from "
        f"{config.min_depth:.3g} to {config.max_depth:.3g} m: {info}"
    )
    return 0


def size_argument(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT of a command line."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not WIDTHxHEIGHT, as in 640x192")
    return int(match[1]), int(match[2])
