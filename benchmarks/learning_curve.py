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
from charts import chart
from scoring import Predict, score
from tqdm import tqdm

from ssmde_ros.commands.pictures import write_picture
from ssmde_ros.geometry import CameraCalibration
from ssmde_ros.runtime import DepthEstimator, EngineConfig, EstimatorConfig

EXACT = EstimatorConfig(EngineConfig("torch", "cpu", precision="fp32"), min_depth=0.0, max_depth=float("inf"))


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
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {name: {} for name in bags}
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


if __name__ == "__main__":
    main()
