"""`ssmde export`: the network as a file for another runtime, checked against torch."""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ssmde_ros.commands.import_weights import size_argument
from ssmde_ros.data.sample import sample_frames
from ssmde_ros.data.sources import open_source
from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import DepthNet, DepthNetConfig, load_depth_net
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime import DepthEstimator, EngineConfig, EstimatorConfig
from ssmde_ros.runtime.engines import EngineName
from ssmde_ros.runtime.estimator import network_size
from ssmde_ros.runtime.export import ExportConfig, export, relative_difference
from ssmde_ros.runtime.exported import SUFFIXES, Exported, Form, Precision, reason
from ssmde_ros.runtime.installed import has_onnxruntime, has_openvino
from ssmde_ros.runtime.quantise import spread

TOLERANCES: dict[Precision, float] = {"fp32": 1e-3, "fp16": 2e-2, "int8": 0.1}
"""Of depth relative to torch: the largest difference of any pixel; in int8, where single pixels say little, the mean."""

_CHECKED, _CALIBRATED = 8, 64  # frames


def add_parser(commands: Any) -> None:
    """Add `export` to the command line."""
    parser = commands.add_parser(
        "export",
        help="weights as onnx, openvino, torchscript or tensorrt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description=(
            "Writes the network for another runtime, runs the file there, and compares its depth with torch's on frames.\n"
            "A file that differs by more than the tolerance is not kept. Each takes image [1, H, W, 3] uint8 RGB and gives\n"
            "depth [1, H, W] float32 in metres (times one factor where the weights are relative); H and W multiples of 32.\n"
            "depth_node, `ssmde depth` and `ssmde eval` run these files too, in place of weights.\n\n"
            "  onnx         model.onnx               fp32, fp16, int8; pip install onnx onnxscript onnxruntime\n"
            "  openvino     model.xml and model.bin  fp32, fp16 (weights), int8\n"
            "  torchscript  model.ts                 fp32, fp16 (for a GPU)\n"
            "  tensorrt     model.plan               fp32, fp16; on the machine with the GPU that will run it (never tried)"
        ),
        epilog="examples:\n"
        "  ssmde export --format onnx -o student.onnx\n"
        "  ssmde export runs/robot/generations/0001/student.safetensors --format openvino -o robot.xml --dynamic\n"
        "  ssmde export --format onnx --precision int8 --frames my_bag -o student-int8.onnx",
    )
    parser.add_argument("weights", type=Path, nargs="?", help="weights file; the shipped student where none is given")
    parser.add_argument("--format", choices=get_args(Form), required=True)
    parser.add_argument("-o", "--out", type=Path, required=True, help=f"file to write, {', '.join(SUFFIXES)}")
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32", help="(%(default)s)")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--size", type=size_argument, help="WxH; else that for the camera of --frames, else as trained")
    shape.add_argument("--dynamic", action="store_true", help="any multiples of 32 (not for tensorrt)")
    parser.add_argument(
        "--frames", type=Path, help="bag, video or folder of images to compare on; int8 measures its ranges there"
    )
    parser.add_argument("--image-topic", help="needed when a bag has several")
    parser.add_argument("--camera-info-topic", help="needed when a bag has several")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write, run, compare, and say how well it went."""
    out: Path = options.out
    try:
        wanted = ExportConfig(options.format, options.precision, _given_size(options))
        wanted.check_name(out)
    except ValueError as error:
        raise SsmdeError(str(error)) from error
    wanted.require()
    if options.precision == "int8" and options.frames is None:
        raise SsmdeError(
            "--precision int8 needs --frames: a recording of what the camera will see, to measure ranges on"
        )
    if out.suffix == ".xml" and out.with_suffix(".bin").exists() and not out.exists():
        raise SsmdeError(f"{out.with_suffix('.bin')} is there already, and not of an export: choose another name")
    net, info = load_depth_net(options.weights or default_weights())
    pictures = _pictures(options)
    width, height = _size(options, net.config, pictures[0])
    frames = [cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) for picture in pictures]
    config = replace(wanted, size=None if options.dynamic else (height, width))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Written elsewhere first: what has the name already stays until there is something better.
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}.") as folder:
            made = export(net, info, config, Path(folder, out.name), frames)
            told = _compared(made, net, (width, height), frames)
            files = _moved(made.info.path, out)
    except OSError as error:
        raise SsmdeError(f"{out} cannot be written: {error.strerror or error}") from error
    except (RuntimeError, ValueError) as error:  # of the libraries that write or run it
        raise SsmdeError(f"nothing is written: {config.form} in {config.precision} failed ({reason(error)})") from error
    shown = "any size" if made.size is None else f"{width}x{height}"
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    print(f"{made.info}: {made.form} {made.precision}, {shown}, {megabytes:.1f} MB; {told}")
    return 0


def _compared(made: Exported, net: DepthNet, size: tuple[int, int], frames: Sequence[NDArray[np.uint8]]) -> str:
    """How far the depth of an exported file lies from torch's, in words: the worst of what can run it here.

    Args:
        size: (width, height) of the frames.

    Raises:
        SsmdeError: farther than is allowed, or it does not run.
    """
    by_mean, limit = made.precision == "int8", TOLERANCES[made.precision]
    shown = spread(frames, _CHECKED)
    runners: list[EngineName] = ["auto"]
    if made.form == "onnx":
        able: dict[EngineName, bool] = {"onnxruntime": has_onnxruntime(), "openvino": has_openvino()}
        runners = [name for name in able if able[name]]
    # In fp32 on the CPU: on a GPU torch rounds what it multiplies.
    device = "cpu" if made.form != "tensorrt" and made.precision != "fp16" else "auto"
    worst, names = 0.0, []
    for name in runners:
        engine = DepthEstimator(made.info.path, EstimatorConfig(EngineConfig(name, device), input_size=size)).engine
        largest, mean = relative_difference(net, engine, shown)
        worst = max(worst, mean if by_mean else largest)
        names.append(engine.name)
    kind = "mean" if by_mean else "largest"
    told = f"{kind} difference to torch {100 * worst:.2g} % on {len(shown)} frames, by {' and '.join(names)}"
    if not worst <= limit:
        raise SsmdeError(f"nothing is written: {told}, and {100 * limit:g} % are allowed in {made.precision}")
    return told


def _moved(source: Path, out: Path) -> list[Path]:
    """An exported file and what belongs to it, put where it was asked for."""
    moved = []
    for suffix in (".bin", source.suffix):  # the one that is opened comes last
        if source.with_suffix(suffix).is_file():
            moved.append(source.with_suffix(suffix).replace(out.with_suffix(suffix)))
    return moved


def _pictures(options: argparse.Namespace) -> list[NDArray[np.uint8]]:
    """RGB pictures `[H, W, 3]` of one size, evenly spread over what was given."""
    most = _CALIBRATED if options.precision == "int8" else _CHECKED
    if options.frames is None:
        drawn = itertools.islice(sample_frames(), most)
        bar = tqdm(drawn, total=most, desc="drawing frames to compare on", unit="frame", disable=None)
        return [(f.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for f in bar]
    with open_source(options.frames, options.image_topic, options.camera_info_topic) as source:
        every = max(1, -(-source.count // most))
        bar = tqdm(
            itertools.islice(source.frames, 0, None, every), total=most, desc="reading", unit="frame", disable=None
        )
        found = [frame.image for frame in itertools.islice(bar, most)]
    if not found:
        raise SsmdeError(f"{options.frames} has no frames to compare on")
    return [picture for picture in found if picture.shape == found[0].shape]


def _given_size(options: argparse.Namespace) -> tuple[int, int] | None:
    """(height, width) of --size; for TensorRT, which takes no open size, one that stands for what is found later."""
    if options.size:
        return options.size[1], options.size[0]
    return (64, 64) if options.format == "tensorrt" and not options.dynamic else None


def _size(options: argparse.Namespace, net: DepthNetConfig, picture: NDArray[np.uint8]) -> tuple[int, int]:
    """(width, height) of the export, or of the comparison where any size goes."""
    if options.size:
        width, height = options.size
        return width, height
    if options.frames is None:
        return net.input_width, net.input_height
    return network_size(picture.shape[1], picture.shape[0], net)
