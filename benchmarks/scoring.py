"""Zero-shot errors of anything that gives depth, on a bag with one image and one depth topic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssmde_ros.data.bags import Bag
from ssmde_ros.evaluation import named_protocol
from ssmde_ros.evaluation.bag import score_bag
from ssmde_ros.geometry import CameraCalibration

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Depth `[H, W]` in metres of an image `[H, W, 3]`."""


def score(
    path: Path, predict_of: Callable[[CameraCalibration], Predict], protocol: str, every: int
) -> tuple[float, float]:
    """AbsRel and delta1 on every n-th frame of a bag, median-scaled.

    Args:
        predict_of: what gives depth for the images of a camera.
        protocol: a name that `ssmde eval --protocol` knows.
    """
    with Bag(path) as bag:
        image, depth = bag.choose("image", None, "--bag"), bag.choose("depth", None, "--bag")
        info = bag.camera_info_for(image, None) if image else None
        if image is None or depth is None or info is None:
            raise SystemExit(f"{path} needs images, their camera_info and a depth topic")
        predict = predict_of(bag.calibration(info, image.name))
        result = score_bag(
            bag, image, depth.name, predict, named_protocol(protocol), wanted=range(0, image.count, every)
        )
    return result.metrics["abs_rel"], result.metrics["d1"]
