r"""Zero-shot errors of a supervised run over its steps, drawn and as a table.

    python benchmarks/learning_curve.py runs/supervised/snapshots --out docs/images/learning_curve.png \
        --bag kitti_traffic=../shared/data/kitti_traffic --protocol kitti_traffic=kitti \
        --bag kitchen=../shared/data/kitchen --protocol kitchen=tum --every 10

Several folders of snapshots are several curves. The bags are looked at and teach nothing.
"""

from __future__ import annotations

import argparse
import re
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scoring import Predict, score
from tqdm import tqdm

from ssmde_ros.commands.pictures import write_picture
from ssmde_ros.geometry import CameraCalibration
from ssmde_ros.runtime import DepthEstimator, EngineConfig, EstimatorConfig

EXACT = EstimatorConfig(EngineConfig("torch", "cpu", precision="fp32"), min_depth=0.0, max_depth=float("inf"))
COLORS = ((200, 80, 0), (0, 110, 220), (60, 150, 0), (150, 0, 150), (90, 90, 90))
WIDTH, HEIGHT, MARGIN = 640, 360, 50


def main() -> None:
    """Score every snapshot on every bag."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("snapshots", type=Path, nargs="+", help="folders of step-NNNNN.safetensors")
    parser.add_argument("--bag", action="append", required=True, metavar="NAME=BAG", help="with one depth topic")
    parser.add_argument("--protocol", action="append", default=[], metavar="NAME=PROTOCOL", help="of a bag (none)")
    parser.add_argument("--every", type=int, default=1, help="only every n-th frame of each bag (1)")
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    options = parser.parse_args()
    bags, protocols = (dict(pair.split("=", 1) for pair in pairs) for pairs in (options.bag, options.protocol))
    curves: dict[str, dict[str, list[tuple[int, float]]]] = {name: {} for name in bags}
    for folder in options.snapshots:
        files = sorted(folder.glob("step-*.safetensors"))
        if not files:
            raise SystemExit(f"{folder} has no step-NNNNN.safetensors")
        label = folder.parent.name
        print(f"{label}\n| step | " + " | ".join(f"{name}: AbsRel, d1" for name in bags) + " |")
        for file in tqdm(files, desc=label, unit="snapshot"):
            step, row = int(re.findall(r"\d+", file.stem)[-1]), []
            for name, bag in bags.items():
                error, inliers = score(Path(bag), partial(depth_by, file), protocols.get(name, "none"), options.every)
                curves[name].setdefault(label, []).append((step, error))
                row.append(f"{error:.3f}, {inliers:.3f}")
            tqdm.write(f"| {step} | " + " | ".join(row) + " |")
    write_picture(options.out, cv2.hconcat([chart(f"{name}: AbsRel", curve) for name, curve in curves.items()]))


def depth_by(weights: Path, calibration: CameraCalibration) -> Predict:
    """The live path, in fp32."""
    estimator = DepthEstimator(weights, EXACT)
    return lambda picture: estimator.estimate(picture, calibration).depth


def chart(title: str, curves: dict[str, list[tuple[int, float]]]) -> NDArray[np.uint8]:
    """Lines over steps, one for each run. `[H, W, 3]` BGR."""
    picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    points = [point for curve in curves.values() for point in curve]
    last = max(1, *(step for step, _ in points))
    low, high = min(error for _, error in points) - 0.01, max(error for _, error in points) + 0.01

    def at(step: int, error: float) -> tuple[int, int]:
        x = MARGIN + (WIDTH - 2 * MARGIN) * step / last
        return round(x), round(HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (error - low) / (high - low))

    for error in np.linspace(low, high, 5):
        cv2.line(picture, at(0, error), at(last, error), (225, 225, 225), 1)
        _write(picture, f"{error:.3f}", (4, at(0, error)[1] + 4))
    for step in np.linspace(0, last, 5).round().astype(int):
        _write(picture, str(step), (at(step, low)[0] - 14, HEIGHT - MARGIN + 20))
    _write(picture, title, (MARGIN, 22))
    for number, (label, curve) in enumerate(curves.items()):
        color = COLORS[number % len(COLORS)]
        line = np.array([at(*point) for point in sorted(curve)], np.int32)
        cv2.polylines(picture, [line], False, color, 2, cv2.LINE_AA)
        _write(picture, label, (WIDTH - MARGIN - 190, 40 + 18 * number), color)
    return picture


def _write(picture: NDArray[np.uint8], text: str, at: tuple[int, int], color: tuple[int, int, int] = (0, 0, 0)) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)


if __name__ == "__main__":
    main()
