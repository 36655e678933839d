"""What the tests of exported files share."""

import cv2
import numpy as np

from ssmde_ros.runtime import DepthEstimator, EngineConfig, EstimatorConfig

SIZE = (96, 128)
FRAMES = [
    cv2.GaussianBlur(np.random.default_rng(n).integers(0, 256, (*SIZE, 3), dtype=np.uint8), (0, 0), 3) for n in range(4)
]
FORMS = ("onnx", "openvino", "torchscript")
HERE = [(form, precision) for form in FORMS for precision in ("fp32", "fp16")]


def size_of(path):
    return sum(p.stat().st_size for p in path.parent.iterdir())


def engine_of(path, name="auto", size=SIZE):
    return DepthEstimator(path, EstimatorConfig(EngineConfig(name, "cpu"), input_size=size[::-1])).engine
