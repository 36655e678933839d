"""`ssmde depth`: depth of images, folders, videos and bags, written to files."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
from tqdm import tqdm

from ssmde_ros.commands.pictures import write_picture, write_ply
from ssmde_ros.data.sources import open_source
from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import CameraCalibration, PinholeCamera
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime import (
    CloudBuilder,
    CloudConfig,
    DepthEstimator,
    DepthFrame,
    EngineConfig,
    EstimatorConfig,
    color_depth,
)  # fmt: skip
from ssmde_ros.runtime.engines import EngineName, EnginePrecision


def add_parser(commands: Any) -> None:
    """Add `depth` to the command line."""
    parser = commands.add_parser(
        "depth",
        help="depth of an image, a folder, a video or a bag",
        description="Writes, per frame, NAME.png (16 bit, millimetres, 0 unknown) or NAME.npz (`depth` float32 metres, "
        "`K`), and NAME_color.jpg for looking at. Frames of bags are named by their stamp in nanoseconds, of videos by their number.",
        epilog="example: ssmde depth drive.mp4 -o out --format npz --ply",
    )
    parser.add_argument("input", type=Path, help="image, folder of images, video, rosbag2 folder or ROS 1 .bag")
    parser.add_argument("-o", "--out", type=Path, required=True, help="output folder")
    parser.add_argument("--format", choices=("png", "npz"), default="png", help="depth file (%(default)s)")
    parser.add_argument("--ply", action="store_true", help="also write a point cloud per frame")
    parser.add_argument(
        "--hfov", type=float, default=60.0, help="field of view assumed for --ply, degrees (%(default)s)"
    )
    parser.add_argument("--image-topic", help="needed when a bag has several")
    parser.add_argument("--camera-info-topic", help="needed when a bag has several")
    parser.add_argument("--weights", type=Path, help="weights file instead of the shipped student")
    parser.add_argument("--engine", choices=get_args(EngineName), default="auto")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (%(default)s)")
    parser.add_argument(
        "--precision", choices=get_args(EnginePrecision), default="auto",
        help="auto: sixteen bits where the hardware multiplies them itself (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--scale", type=float, default=1.0, help="metres per network unit (%(default)s)")
    parser.add_argument(
        "--max-depth", type=float, default=80.0, help="metres; farther is +inf in npz, 0 in png (%(default)s)"
    )
    parser.add_argument(
        "--no-rectify", action="store_true", help="images are rectified already, whatever camera_info says"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write depth of every frame."""
    try:
        engine = EngineConfig(options.engine, options.device, precision=options.precision)
        config = EstimatorConfig(
            engine, rectify=not options.no_rectify, scale=options.scale, max_depth=options.max_depth
        )
    except ValueError as error:
        raise SsmdeError(str(error)) from error
    if not 0 < options.hfov < 180:
        raise SsmdeError(f"--hfov must lie between 0 and 180 degrees, got {options.hfov:g}")
    source_folder = options.input if options.input.is_dir() else options.input.parent
    if options.out.resolve() == source_folder.resolve():
        raise SsmdeError(
            f"output folder {options.out} holds the input, whose files would be overwritten; choose another"
        )
    estimator = DepthEstimator(options.weights or default_weights(), config)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SsmdeError(f"output folder {options.out} cannot be made: {error}") from error
    with open_source(options.input, options.image_topic, options.camera_info_topic) as source:
        names: Counter[str] = Counter()
        for frame in tqdm(source.frames, total=source.count, desc="depth", unit="frame"):
            # A camera may change its size mid-way; its calibration is then no longer known.
            size = (frame.image.shape[1], frame.image.shape[0])
            fits = source.calibration and (source.calibration.width, source.calibration.height) == size
            calibration: CameraCalibration | None = source.calibration if fits else None
            names[frame.name] += 1
            # Two frames of one name: stamps may repeat, and a.jpg may lie beside a.png.
            name = frame.name if names[frame.name] == 1 else f"{frame.name}_{names[frame.name]}"
            _write(options, name, estimator.estimate(frame.image, calibration))
    print(
        f"{names.total()} depth images in {options.out} ({estimator.identity}, {estimator.identity.config.scale_kind} scale)"
    )
    return 0


def _write(options: argparse.Namespace, name: str, frame: DepthFrame) -> None:
    depth = frame.depth
    if options.format == "npz":
        matrix = np.array(frame.camera.rows() if frame.camera else np.zeros((0, 0)), np.float32)
        partial = options.out / f".{name}.partial.npz"
        np.savez_compressed(partial, depth=depth, K=matrix)
        partial.replace(options.out / f"{name}.npz")
    else:
        millimetres = np.where(frame.valid & (depth < 65.535), depth, 0) * 1000 + 0.5
        write_picture(options.out / f"{name}.png", millimetres.astype(np.uint16))
    picture = np.vstack([cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR), color_depth(depth, 0.5, 80.0)])
    write_picture(options.out / f"{name}_color.jpg", picture)
    if options.ply:
        height, width = depth.shape
        camera = frame.camera or PinholeCamera.from_hfov(width, height, np.radians(options.hfov))
        write_ply(options.out / f"{name}.ply", CloudBuilder(camera, CloudConfig(organised=False))(depth, frame.image))
