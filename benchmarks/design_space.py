r"""Accuracy against time over weights, input sizes and output strides, as a table and a picture.

    python benchmarks/design_space.py --bag kitti_traffic=../shared/data/kitti_traffic --protocol kitti_traffic=kitti \
        --bag kitchen=../shared/data/kitchen --protocol kitchen=tum --every 5 --out docs/images/design_space.png

A coarser output leaves out the decoder's last levels and takes the head of a coarser scale, which must have learned (that of the
shipped student has not); depth then goes through the same up-sampling as in the node. Times are of OpenVINO, in turns; the bags
are looked at and teach nothing.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import torch
from charts import chart
from scoring import Predict, score
from torch import Tensor, nn
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
Cell = tuple[str, int, tuple[int, int]]
"""A network's name, its output stride, and about which (width, height) it takes."""


class Coarse(nn.Module):
    """A network whose depth ends at a stride: `[1, H, W, 3]` uint8 to `[1, H/s, W/s]` metres."""

    def __init__(self, net: DepthNet, stride: int) -> None:
        super().__init__()
        self.net, self.finest = net, stride.bit_length() - 1

    def forward(self, image: Tensor) -> Tensor:
        features, decoder = self.net.features(image.float().permute(0, 3, 1, 2) / 255), self.net.decoder
        x = decoder.decode(features, self.finest)[0]
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


def times(
    nets: Mapping[str, DepthNet], strides: Sequence[int], sizes: Sequence[tuple[int, int]], rounds: int
) -> dict[Cell, float]:
    """Median milliseconds of every network, stride and size, taking turns."""
    config = CompileConfig(precision="bf16" if native_bf16() else "fp32")
    cells = list(product(nets, strides, sizes))
    engines = {cell: compiled(Coarse(nets[cell[0]], cell[1]), cell[2], config) for cell in cells}
    images = {size: np.zeros((size[1], size[0], 3), np.uint8) for size in sizes}
    taken: dict[Cell, list[float]] = {cell: [] for cell in cells}
    for _ in tqdm(range(rounds + 3), desc=f"times, {config.precision}"):
        for cell, engine in engines.items():
            taken[cell].append(timed(lambda engine=engine, cell=cell: engine.infer(images[cell[2]])))  # type: ignore[misc]
    return {cell: statistics.median(found[3:]) for cell, found in taken.items()}


def size_of(text: str) -> tuple[int, int]:
    """Of "320x256"."""
    width, height = map(int, text.split("x"))
    return width, height


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shipped = [f"shipped={default_weights()}"]
    parser.add_argument("--weights", nargs="+", default=shipped, metavar="NAME=FILE", help="the shipped student")
    parser.add_argument("--sizes", nargs="+", type=size_of, default=SIZES, metavar="WxH", help="of the input, about")
    parser.add_argument("--strides", nargs="+", type=int, default=[1], choices=(1, 2, 4), help="of the output (1)")
    parser.add_argument("--bag", action="append", required=True, metavar="NAME=BAG", help="with one depth topic")
    parser.add_argument("--protocol", action="append", default=[], metavar="NAME=PROTOCOL", help="of a bag (none)")
    parser.add_argument("--every", type=int, default=1, help="only every n-th frame of each bag (1)")
    parser.add_argument("--rounds", type=int, default=40, help="measurements of each time (40)")
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    options = parser.parse_args()
    files, bags, protocols = (
        dict(pair.split("=", 1) for pair in pairs) for pairs in (options.weights, options.bag, options.protocol)
    )
    nets = {name: fold_batch_norm(load_depth_net(Path(file))[0].eval()) for name, file in files.items()}
    taken = times(nets, options.strides, options.sizes, options.rounds)
    print("| weights | output stride | input | ms | " + " | ".join(f"AbsRel {name}" for name in bags) + " |")
    curves: dict[str, dict[str, list[tuple[float, float]]]] = {bag: {} for bag in bags}
    for (name, stride, size), milliseconds in taken.items():
        label, row = name if stride == 1 else f"{name}, stride {stride}", []
        for bag, path in bags.items():
            predict_of = partial(depth_by, nets[name], size, stride)
            error, _ = score(Path(path), predict_of, protocols.get(bag, "none"), options.every)
            curves[bag].setdefault(label, []).append((milliseconds, error))
            row.append(f"{error:.3f}")
        print(f"| {name} | {stride} | {size[0]}x{size[1]} | {milliseconds:.1f} | " + " | ".join(row) + " |", flush=True)
    charts = [chart(f"{bag}: AbsRel over milliseconds", found, digits=1, dots=True) for bag, found in curves.items()]
    write_picture(options.out, cv2.hconcat(charts))


if __name__ == "__main__":
    main()
