"""Whether several cameras should share one network in batches, or have one each, on this processor.

    python benchmarks/batching.py --cameras 1 2 4

Milliseconds for one image of every camera: as one batch on all cores, one after the other on all cores, and at the same time
with an equal share of the cores each, which is what `cameras:=` of depth.launch.py does.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from ssmde_ros.commands.bench import timed
from ssmde_ros.launch_arguments import fair_threads
from ssmde_ros.networks import DepthNet, load_depth_net
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime.live_net import LiveNet
from ssmde_ros.runtime.openvino_engine import CompileConfig, OpenVinoEngine, compiled_net, native_bf16, openvino

SIZE = (256, 320)  # height, width


def batched(net: DepthNet, cameras: int, config: CompileConfig) -> Callable[[], object]:
    """One call for the images of all cameras."""
    ov = openvino()
    shape = [cameras, *SIZE, 3]
    example = torch.zeros(shape, dtype=torch.uint8)
    model = ov.convert_model(LiveNet(net), example_input=example, input=[(shape, ov.Type.u8)])
    request = ov.Core().compile_model(model, "CPU", config.properties()).create_infer_request()
    images = np.zeros(shape, np.uint8)
    return lambda: request.infer([images], share_inputs=True, share_outputs=True)


def ways(
    net: DepthNet, cameras: int, precision: Literal["fp32", "bf16"], pool: ThreadPoolExecutor
) -> dict[str, Callable[[], object]]:
    """What is compared: each call gives depth for one image of every camera."""
    image = np.zeros((*SIZE, 3), np.uint8)
    whole, share = CompileConfig(0, precision), CompileConfig(fair_threads(cameras), precision)
    alone = OpenVinoEngine(compiled_net(lambda: net, SIZE, whole))
    engines = [OpenVinoEngine(compiled_net(lambda: net, SIZE, share)) for _ in range(cameras)]
    return {
        "one batch": batched(net, cameras, whole),
        "one after the other": lambda: [alone.infer(image) for _ in range(cameras)],
        "each its share": lambda: list(pool.map(lambda engine: engine.infer(image), engines)),
    }


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cameras", type=int, nargs="+", default=[1, 2, 4], help="how many (%(default)s)")
    parser.add_argument("--rounds", type=int, default=40, help="measurements of each (%(default)s)")
    options = parser.parse_args()
    net, _ = load_depth_net(default_weights())
    precisions: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16") if native_bf16() else ("fp32",)
    for precision, cameras in product(precisions, options.cameras):
        with ThreadPoolExecutor(cameras) as pool:
            calls = ways(net, cameras, precision, pool)
            times: dict[str, list[float]] = {name: [] for name in calls}
            for _ in tqdm(range(options.rounds + 3), desc=f"{precision}, {cameras} cameras"):
                for name, call in calls.items():
                    times[name].append(timed(call))
        told = ", ".join(f"{name} {statistics.median(taken[3:]):.1f} ms" for name, taken in times.items())
        print(f"{precision}, {cameras} cameras: {told}")


if __name__ == "__main__":
    main()
