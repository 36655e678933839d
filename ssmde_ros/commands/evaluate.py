"""`ssmde eval`: depth errors on a bag that holds ground truth."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ssmde_ros import __version__
from ssmde_ros.commands.report import make_report, report_folder, write_report
from ssmde_ros.data.bags import Bag, BagError, Topic
from ssmde_ros.errors import SsmdeError
from ssmde_ros.evaluation import METRIC_KEYS, PROTOCOLS, DepthMetrics, Protocol, named_protocol
from ssmde_ros.evaluation.bag import BagScore, Predictor, score_bag
from ssmde_ros.geometry import CameraCalibration
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime import DepthEstimator, EngineConfig, EstimatorConfig


def add_parser(commands: Any) -> None:
    """Add `eval` to the command line."""
    table = "\n".join(
        f"  {name:6} {each.min_depth:g} to {each.max_depth:g} m, crop {each.crop}" for name, each in PROTOCOLS.items()
    )
    parser = commands.add_parser(
        "eval",
        help="depth errors on a bag with ground truth",
        description="Per-frame errors, averaged over the frames whose ground truth is at most half a frame interval "
        "away.\nWith a mask of moving objects also apart for static and dynamic pixels, all under the one\n"
        "alignment of the full image.",
        epilog=f"protocols (median alignment):\n{table}\n\nexamples:\n"
        "  ssmde eval --bag drive --depth-topic /lidar/depth --protocol kitti --report drive_report\n"
        "  ssmde eval --bag drive --protocol kitti --max-depth 50      the preset, with one value changed\n"
        "  ssmde eval --bag kitchen --protocol tum --frames=-100:      the last hundred frames only",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bag", type=Path, required=True, help="rosbag2 folder or ROS 1 .bag")
    parser.add_argument("--depth-topic", help="16UC1 millimetres or 32FC1 metres; needed when there are several")
    parser.add_argument("--image-topic", help="needed when there are several")
    parser.add_argument("--camera-info-topic", help="needed when there are several")
    parser.add_argument("--mask-topic", help="mono8 images in the view of the depth, nonzero on moving objects")
    parser.add_argument(
        "--frames",
        metavar="A:B",
        help="only this Python slice of the image topic: 0:50, 100:, and with an equals sign --frames=-100:",
    )
    protocol = parser.add_argument_group("protocol", "single values override those of --protocol")
    protocol.add_argument(
        "--protocol", metavar="NAME", default="none", help=f"{', '.join(PROTOCOLS)}; listed below (%(default)s)"
    )
    protocol.add_argument("--align", choices=("median", "affine", "none"), help="per image (median)")
    protocol.add_argument("--crop", choices=("garg", "nyu", "none"), help="part of the image that counts")
    protocol.add_argument("--min-depth", type=float, help="metres; nearer truth does not count")
    protocol.add_argument("--max-depth", type=float, help="metres; farther truth does not count")
    predictor = parser.add_mutually_exclusive_group()
    predictor.add_argument("--weights", type=Path, help="weights file instead of the shipped student")
    predictor.add_argument("--constant", action="store_true", help="score one constant depth: the floor to clear")
    parser.add_argument(
        "--no-rectify", action="store_true", help="images are rectified already, whatever camera_info says"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with regions and errors by range")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="write report.html (one file, pictures inside) and report.md"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the errors, and write the report that was asked for."""
    protocol, protocol_name = chosen_protocol(options)
    with Bag(options.bag) as bag:
        image, depth, mask = _topics(bag, options)
        wanted = chosen_frames(options.frames, image.count) if options.frames is not None else None
        if options.report:
            report_folder(options.report)
        info = bag.camera_info_for(image, options.camera_info_topic)
        calibration = bag.calibration(info, image.name) if info else None
        with tqdm(total=image.count if wanted is None else len(wanted), desc="eval", unit="frame") as bar:
            predict, name = _predictor(options, calibration)

            def counted(picture: NDArray[np.uint8]) -> NDArray[np.floating]:
                bar.update()
                return predict(picture)

            try:
                score = score_bag(bag, image, depth.name, counted, protocol, mask_topic=mask, wanted=wanted)
            except ValueError as error:  # sizes that do not fit, depths that are none
                raise SsmdeError(f"bag {options.bag}: {error}") from error
        facts: dict[str, Any] = {
            "frames": score.frames,
            "frames_without_truth": score.without_truth,
            **({"frames_without_mask": score.without_mask} if mask else {}),
            "align": protocol.align,
            "weights": name,
        }
        if options.report:
            words = _words(options, protocol, protocol_name, facts, (image.name, depth.name, mask))
            report = make_report(words, score, bag, (image, depth.name, mask), predict, protocol)
            facts["report"] = str(write_report(options.report, report))
    if options.json:
        settings = {"protocol": {"name": protocol_name} | asdict(protocol)}
        print(json.dumps(_rounded(score.metrics) | facts | settings | details(score)))
    else:
        print("\n".join(table_lines(score)))
        print("  ".join(f"{key} {value}" for key, value in (facts | {"protocol": protocol_name}).items()))
    return 0


def chosen_protocol(options: argparse.Namespace) -> tuple[Protocol, str]:
    """The preset with the single values over it, and what to call it."""
    keys = ("align", "crop", "min_depth", "max_depth")
    given = {key: value for key in keys if (value := getattr(options, key)) is not None}
    try:
        preset = named_protocol(options.protocol)
        protocol = replace(preset, **given)
    except ValueError as error:
        raise SsmdeError(str(error)) from error
    if protocol == preset:
        return protocol, options.protocol
    # Changed presets must not go by the benchmark's name: their numbers do not compare.
    return protocol, "custom" if options.protocol == "none" else f"{options.protocol}, changed"


def chosen_frames(text: str, count: int) -> range:
    """The frame numbers of a slice "A:B" out of `count`. Raises SsmdeError when it is none or selects nothing."""
    try:
        first, last = (int(part) if part.strip() else None for part in text.split(":"))
    except ValueError as error:
        raise SsmdeError(f"--frames must look like A:B (0:50, 100:, =-100:), got {text!r}") from error
    frames = range(count)[first:last]
    if not frames:
        raise SsmdeError(f"--frames {text} selects none of the {count} frames")
    return frames


def _topics(bag: Bag, options: argparse.Namespace) -> tuple[Topic, Topic, str | None]:
    """Image, depth and mask topic."""
    mask = bag.choose("image", options.mask_topic, "--mask-topic") if options.mask_topic else None
    wanted = options.image_topic
    if mask and wanted is None:
        # Masks are images too; the one that is named as such is no candidate for the camera.
        others = [topic.name for topic in bag.topics if topic.kind == "image" and topic.count and topic != mask]
        wanted = others[0] if len(others) == 1 else None
    image = bag.choose("image", wanted, "--image-topic")
    depth = bag.choose("depth", options.depth_topic, "--depth-topic")
    if image is None or depth is None:
        raise BagError(f"bag {options.bag} has no {'image' if image is None else 'depth'} topic")
    return image, depth, mask.name if mask else None


def _rounded(metrics: DepthMetrics) -> DepthMetrics:
    return {key: round(metrics[key], 6) for key in METRIC_KEYS}


def details(score: BagScore) -> dict[str, Any]:
    """Regions and range bins for programs; null where there is nothing to average."""
    regions = {
        region: {"frames": found.frames, "pixels": found.pixels}
        | (_rounded(found.metrics) if found.metrics else dict.fromkeys(METRIC_KEYS))
        for region, found in score.regions.items()
    }
    bins = [
        {key: round(value, 6) if isinstance(value, float) else value for key, value in asdict(bin_).items()}
        for bin_ in score.bins
    ]
    return {"regions": regions, "bins": bins}


def table_lines(score: BagScore) -> list[str]:
    """Regions down, metrics across, in columns."""
    lines = [f"{'pixels':8}{'frames':>7}" + "".join(f"{key:>10}" for key in METRIC_KEYS)]
    for region, found in score.regions.items():
        numbers = [f"{found.metrics[key]:10.4f}" if found.metrics else f"{'-':>10}" for key in METRIC_KEYS]
        lines.append(f"{region:8}{found.frames:7}" + "".join(numbers))
    return lines


def _words(
    options: argparse.Namespace,
    protocol: Protocol,
    protocol_name: str,
    facts: dict[str, Any],
    topics: Collection[str | None],
) -> dict[str, str]:
    """What a report says about its origin."""
    image, depth, mask = topics
    scored = f"{facts['frames']} scored, {facts['frames_without_truth']} without ground truth"
    if mask:
        scored += f", {facts['frames_without_mask']} without a mask"
    limits = f"{protocol.min_depth:g} to {protocol.max_depth:g} m"
    return {
        "weights": str(facts["weights"]),
        "data": f"{options.bag.resolve().name}: {image} against {depth}" + (f", moving mask {mask}" if mask else ""),
        "frames": scored + (f" (frames {options.frames} only)" if options.frames else ""),
        "protocol": f"{protocol_name}: {limits}, crop {protocol.crop}, alignment {protocol.align}",
        "made": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC by ssmde_ros {__version__}",
    }


def _predictor(options: argparse.Namespace, calibration: CameraCalibration | None) -> tuple[Predictor, str]:
    if options.constant:
        return lambda picture: np.ones(picture.shape[:2], np.float32), "constant"
    # No range limits here: every pixel with ground truth must have a prediction.
    # And the same arithmetic on every machine, so that figures compare.
    exact = EngineConfig(precision="fp32")
    config = EstimatorConfig(exact, rectify=not options.no_rectify, min_depth=0.0, max_depth=float("inf"))
    estimator = DepthEstimator(options.weights or default_weights(), config)

    def predict(picture: NDArray[np.uint8]) -> NDArray[np.floating]:
        frame = estimator.estimate(picture, calibration)
        # Past the edge of the lens nothing is known; such pixels stay in the count, at the median depth.
        return np.nan_to_num(frame.depth, nan=float(np.nanmedian(frame.depth)))

    return predict, str(estimator.identity)
