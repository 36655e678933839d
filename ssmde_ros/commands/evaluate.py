"""`ssmde eval`: depth errors on a bag that holds ground truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ssmde_ros.data.bags import Bag, BagError
from ssmde_ros.errors import SsmdeError
from ssmde_ros.evaluation import METRIC_KEYS, Protocol
from ssmde_ros.evaluation.bag import Predictor, score_bag
from ssmde_ros.geometry import CameraCalibration
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime import DepthEstimator, EstimatorConfig


def add_parser(commands: Any) -> None:
    """Add `eval` to the command line."""
    parser = commands.add_parser(
        "eval",
        help="depth errors on a bag with ground truth",
        description="Per-frame errors, averaged over the frames whose ground truth is at most half a frame interval away.",
        epilog="example: ssmde eval --bag drive --depth-topic /lidar/depth --crop garg --max-depth 80",
    )
    parser.add_argument("--bag", type=Path, required=True, help="rosbag2 folder or ROS 1 .bag")
    parser.add_argument("--depth-topic", help="16UC1 millimetres or 32FC1 metres; needed when there are several")
    parser.add_argument("--image-topic", help="needed when there are several")
    parser.add_argument("--camera-info-topic", help="needed when there are several")
    parser.add_argument(
        "--align", choices=("median", "affine", "none"), default="median", help="per image (%(default)s)"
    )
    parser.add_argument("--crop", choices=("garg", "none"), default="none", help="part of the image (%(default)s)")
    parser.add_argument("--min-depth", type=float, default=1e-3, help="metres (%(default)s)")
    parser.add_argument("--max-depth", type=float, default=80.0, help="metres (%(default)s)")
    predictor = parser.add_mutually_exclusive_group()
    predictor.add_argument("--weights", type=Path, help="weights file instead of the shipped student")
    predictor.add_argument("--constant", action="store_true", help="score one constant depth: the floor to clear")
    parser.add_argument(
        "--no-rectify", action="store_true", help="images are rectified already, whatever camera_info says"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the errors."""
    try:
        protocol = Protocol(options.align, options.crop, options.min_depth, options.max_depth)
    except ValueError as error:
        raise SsmdeError(str(error)) from error
    with Bag(options.bag) as bag:
        image = bag.choose("image", options.image_topic, "--image-topic")
        depth = bag.choose("depth", options.depth_topic, "--depth-topic")
        if image is None or depth is None:
            raise BagError(f"bag {options.bag} has no {'image' if image is None else 'depth'} topic")
        info = bag.camera_info_for(image, options.camera_info_topic)
        calibration = bag.calibration(info, image.name) if info else None
        with tqdm(total=image.count, desc="eval", unit="frame") as bar:
            predict, name = _predictor(options, calibration)

            def counted(picture: NDArray[np.uint8]) -> NDArray[np.floating]:
                bar.update()
                return predict(picture)

            try:
                score = score_bag(bag, image, depth.name, counted, protocol)
            except ValueError as error:  # sizes that do not fit, depths that are none
                raise SsmdeError(f"bag {options.bag}: {error}") from error
    report = {key: round(score.metrics[key], 6) for key in METRIC_KEYS}
    facts = {
        "frames": score.frames,
        "frames_without_truth": score.without_truth,
        "align": options.align,
        "weights": name,
    }
    if options.json:
        print(json.dumps(report | facts))
    else:
        print("  ".join(f"{key} {value:.4f}" for key, value in report.items()))
        print("  ".join(f"{key} {value}" for key, value in facts.items()))
    return 0


def _predictor(options: argparse.Namespace, calibration: CameraCalibration | None) -> tuple[Predictor, str]:
    if options.constant:
        return lambda picture: np.ones(picture.shape[:2], np.float32), "constant"
    # No range limits here: every pixel with ground truth must have a prediction.
    config = EstimatorConfig(rectify=not options.no_rectify, min_depth=0.0, max_depth=float("inf"))
    estimator = DepthEstimator(options.weights or default_weights(), config)

    def predict(picture: NDArray[np.uint8]) -> NDArray[np.floating]:
        frame = estimator.estimate(picture, calibration)
        # Past the edge of the lens nothing is known; such pixels stay in the count, at the median depth.
        return np.nan_to_num(frame.depth, nan=float(np.nanmedian(frame.depth)))

    return predict, str(estimator.identity)
