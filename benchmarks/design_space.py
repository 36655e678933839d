r"""Accuracy against time over the sizes of input and output of some weights, as a table and a picture.

    python benchmarks/design_space.py --bag kitti_traffic=../shared/data/kitti_traffic --protocol kitti_traffic=kitti \
        --bag kitchen=../shared/data/kitchen --protocol kitchen=tum --every 5 --out docs/images/design_space.png

A coarser output leaves out the decoder's last levels and takes the head of a coarser scale; depth then goes through the same
up-sampling as in the node. Times are of OpenVINO, in turns; the bags are looked at and teach nothing.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scoring import Predict, score
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from ssmde_ros.commands.bench import timed
from ssmde_ros.commands.pictures import write_picture
from ssmde_ros.geometry import CameraCalibration
from ssmde_ros.networks import DepthNet, disparity_to_depth, load_depth_net
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime.estimator import network_size
from ssmde_ros.runtime.fitter import ImageFitter
from ssmde_ros.runtime.live_net import fold_batch_norm
from ssmde_ros.runtime.openvino_engine import CompileConfig, OpenVinoEngine, native_bf16, openvino
from ssmde_ros.runtime.upsample import DepthUpsampler

SIZES = ((256, 192), (320, 256), (384, 288), (448, 352))  # width, height
STRIDES = (1, 2, 4)
COLORS = {1: (200, 80, 0), 2: (0, 110, 220), 4: (60, 150, 0)}
WIDTH, HEIGHT, MARGIN = 640, 360, 60


class Coarse(nn.Module):
    """A network whose depth ends at a stride: `[1, H, W, 3]` uint8 to `[1, H/s, W/s]` metres."""

    def __init__(self, net: DepthNet, stride: int) -> None:
        super().__init__()
        self.net, self.finest = net, stride.bit_length() - 1

    def forward(self, image: Tensor) -> Tensor:
        features = self.net.features(image.float().permute(0, 3, 1, 2) / 255)
        x, decoder = features[4], self.net.decoder
        for level in range(4, self.finest - 1, -1):
            x = F.interpolate(decoder.reduce[level](x), scale_factor=2.0, mode="nearest")
            x = decoder.fuse[level](torch.cat([x, features[level - 1]], 1) if level > 0 else x)
        sigma = torch.sigmoid(decoder.heads[self.finest](x))
        return disparity_to_depth(sigma, self.net.config.min_depth, self.net.config.max_depth)[:, 0]


def compiled(net: Coarse, size: tuple[int, int], config: CompileConfig) -> OpenVinoEngine:
    """For one (width, height)."""
    ov, shape = openvino(), [1, size[1], size[0], 3]
    model = ov.convert_model(net, example_input=torch.zeros(shape, dtype=torch.uint8), input=[(shape, ov.Type.u8)])
    return OpenVinoEngine(ov.Core().compile_model(model, "CPU", config.properties()), config.precision)


def depth_by(net: DepthNet, size: tuple[int, int], stride: int, calibration: CameraCalibration) -> Predict:
    """As in the node, in fp32; the network's size follows the camera's aspect at the area of `size`."""
    config = replace(net.config, input_width=size[0], input_height=size[1])
    camera = (calibration.width, calibration.height)
    fitter = ImageFitter(
        camera, network_size(*camera, config), calibration if calibration.needs_rectification else None
    )
    upsampler = DepthUpsampler(camera[::-1])
    engine = compiled(Coarse(net, stride), fitter.size, CompileConfig())
    return lambda picture: upsampler(engine.infer(fitter(picture)))


def times(net: DepthNet, rounds: int) -> dict[tuple[tuple[int, int], int], float]:
    """Median milliseconds of every size and stride, taking turns."""
    config = CompileConfig(precision="bf16" if native_bf16() else "fp32")
    cells = list(product(SIZES, STRIDES))
    engines = {(size, stride): compiled(Coarse(net, stride), size, config) for size, stride in cells}
    images = {size: np.zeros((size[1], size[0], 3), np.uint8) for size in SIZES}
    taken: dict[tuple[tuple[int, int], int], list[float]] = {cell: [] for cell in cells}
    for _ in tqdm(range(rounds + 3), desc=f"times, {config.precision}"):
        for cell, engine in engines.items():
            taken[cell].append(timed(lambda engine=engine, cell=cell: engine.infer(images[cell[0]])))  # type: ignore[misc]
    return {cell: statistics.median(found[3:]) for cell, found in taken.items()}


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=default_weights(), help="the shipped student")
    parser.add_argument("--bag", action="append", required=True, metavar="NAME=BAG", help="with one depth topic")
    parser.add_argument("--protocol", action="append", default=[], metavar="NAME=PROTOCOL", help="of a bag (none)")
    parser.add_argument("--every", type=int, default=1, help="only every n-th frame of each bag (1)")
    parser.add_argument("--rounds", type=int, default=40, help="measurements of each time (40)")
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    options = parser.parse_args()
    bags, protocols = (dict(pair.split("=", 1) for pair in pairs) for pairs in (options.bag, options.protocol))
    net = fold_batch_norm(load_depth_net(options.weights)[0].eval())
    taken = times(net, options.rounds)
    print("| input | output stride | ms | " + " | ".join(f"AbsRel {name}" for name in bags) + " |")
    points: dict[str, list[tuple[int, float, float]]] = {name: [] for name in bags}
    for (size, stride), milliseconds in taken.items():
        row = []
        for name, path in bags.items():
            predict_of = partial(depth_by, net, size, stride)
            error, _ = score(Path(path), predict_of, protocols.get(name, "none"), options.every)
            points[name].append((stride, milliseconds, error))
            row.append(f"{error:.3f}")
        print(f"| {size[0]}x{size[1]} | {stride} | {milliseconds:.1f} | " + " | ".join(row) + " |", flush=True)
    write_picture(options.out, cv2.hconcat([chart(name, found) for name, found in points.items()]))


def chart(title: str, points: list[tuple[int, float, float]]) -> NDArray[np.uint8]:
    """Error over time, a line for each stride. `[H, W, 3]` BGR."""
    picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    slowest = max(milliseconds for _, milliseconds, _ in points)
    low, high = min(error for *_, error in points) - 0.01, max(error for *_, error in points) + 0.01

    def at(milliseconds: float, error: float) -> tuple[int, int]:
        x = MARGIN + (WIDTH - 2 * MARGIN) * milliseconds / slowest
        return round(x), round(HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (error - low) / (high - low))

    def write(text: str, where: tuple[int, int], color: tuple[int, int, int] = (0, 0, 0)) -> None:
        cv2.putText(picture, text, where, cv2.FONT_HERSHEY_SIMPLEX, 0.42, color, 1, cv2.LINE_AA)

    write(f"{title}: AbsRel over milliseconds of the network", (MARGIN, 22))
    for error in np.linspace(low, high, 5):
        cv2.line(picture, at(0, error), at(slowest, error), (225, 225, 225), 1)
        write(f"{error:.3f}", (4, at(0, error)[1] + 4))
    for milliseconds in np.linspace(0, slowest, 5):
        write(f"{milliseconds:.1f}", (at(milliseconds, low)[0] - 14, HEIGHT - MARGIN + 20))
    for number, stride in enumerate(STRIDES):
        own = sorted(at(milliseconds, error) for which, milliseconds, error in points if which == stride)
        cv2.polylines(picture, [np.array(own, np.int32)], False, COLORS[stride], 2, cv2.LINE_AA)
        for point in own:
            cv2.circle(picture, point, 4, COLORS[stride], -1, cv2.LINE_AA)
        write(f"output stride {stride}", (WIDTH - MARGIN - 110, 44 + 18 * number), COLORS[stride])
    return picture


if __name__ == "__main__":
    main()
