"""`ssmde bench`: how fast the student is here, against a reference measured in the same process."""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from ssmde_ros.commands.bench_check import REFERENCE, TOLERANCE, check, read_baseline, write_baseline
from ssmde_ros.commands.bench_live import run_live_bench
from ssmde_ros.commands.bench_page import page
from ssmde_ros.commands.pictures import write_atomically
from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import CameraCalibration, PinholeCamera
from ssmde_ros.networks import DepthNet, DepthNetConfig, load_depth_net
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime import CloudBuilder, CloudConfig, DepthEstimator, EngineConfig, EstimatorConfig, create_engine
from ssmde_ros.runtime.create import processor_name
from ssmde_ros.runtime.engines import Engine, EngineName, EnginePrecision

SIZES = ((320, 256), (640, 192))
MORE_SIZES = ((256, 192), (448, 352), (512, 160), (640, 480))  # of --sweep
REFERENCE_WIDTHS = (16, 32, 64, 128, 256)  # Godard et al. 2019


def add_parser(commands: Any) -> None:
    """Add `bench` to the command line."""
    parser = commands.add_parser(
        "bench",
        help="speed of the student against a ResNet-18 reference, or of the whole node",
        description="Medians with spread. The student and a ResNet-18 of Godard et al. 2019 take turns in one "
        "process, so that their ratio holds on a busy machine.",
    )
    parser.add_argument("--rounds", type=int, default=25, help="measurements of each engine (%(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 for each engine's choice")
    parser.add_argument("--live", action="store_true", help="a 640x480 camera through the node over DDS instead")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of --live (%(default)s)")
    parser.add_argument("--rate", type=float, default=30.0, help="frames a second of --live (%(default)s)")
    parser.add_argument("--size", default="640x480", help="image size of --live (%(default)s)")
    parser.add_argument("--cameras", type=int, default=1, help="of --live: that many, each with its node (%(default)s)")
    parser.add_argument("--points", action="store_true", help="with --live: also subscribe to the full xyzrgb cloud")
    parser.add_argument(
        "--precision",
        choices=get_args(EnginePrecision),
        default="auto",
        help="of the node's engine in --live (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--sweep", action="store_true", help="four more image sizes")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the figures as a page with plots")
    parser.add_argument(
        "--baseline", type=Path, metavar="FILE", help="write the ratios of this run, to --check against"
    )
    parser.add_argument(
        "--check", type=Path, metavar="FILE",
        help=f"compare with a baseline; exit code 1 if anything is more than {TOLERANCE:.0%}% slower",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    if options.rounds < 3 or options.threads < 0:
        raise SsmdeError("--rounds must be at least 3 and --threads not negative")
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", options.size) or not 0 < options.rate <= 1000 or options.seconds <= 0:
        raise SsmdeError("--size must look like 640x480, --rate lie between 0 and 1000, --seconds be positive")
    if options.cameras < 1 or (options.cameras > 1 and not options.live):
        raise SsmdeError("--cameras must be at least 1, and more than one are for --live")
    if options.precision != "auto" and not options.live:
        raise SsmdeError("--precision is for --live: without it every precision of this machine is measured")
    if options.live:
        if options.sweep or options.html or options.baseline or options.check:
            raise SsmdeError("--sweep, --html, --baseline and --check are not for --live")
        return run_live_bench(options)
    if options.check:
        read_baseline(options.check)  # nobody wants to learn afterwards that it cannot be read
    for file in filter(None, (options.html, options.baseline)):
        file.parent.mkdir(parents=True, exist_ok=True)
    if options.threads:
        torch.set_num_threads(options.threads)
    student, weights = load_depth_net(default_weights())
    torch.manual_seed(0)
    reference = DepthNet(DepthNetConfig("resnet18", REFERENCE_WIDTHS)).eval()
    report: dict[str, Any] = {"machine": processor_name(), "threads": torch.get_num_threads(), "weights": str(weights)}
    report["peak_gflops"] = round(matmul_peak(), 1)
    report["sizes"] = {}
    for width, height in (*SIZES, *(MORE_SIZES if options.sweep else ())):
        report["sizes"][f"{width}x{height}"] = _compare(
            student, reference, (height, width), report["peak_gflops"], options
        )
    report["stages"] = _stages(reference, options)
    default = report["sizes"]["320x256"]
    rows = {name: row for name, row in default.items() if name.startswith("student")}
    best = min(rows, key=lambda name: rows[name]["median_ms"])
    report["fastest"] = best
    report["speedup_vs_reference"] = rows[best]["speedup"]
    report["share_of_peak"] = rows[best]["share_of_peak"]  # of fp32: sixteen bits may go beyond it
    print(json.dumps(report, indent=None if options.json else 2))
    if options.html:
        write_atomically(options.html, page(report).encode())
    good = True
    if options.check:
        lines, good = check(report, options.check)
        print("\n".join(lines), file=sys.stderr if options.json else sys.stdout)
    if options.baseline:
        write_baseline(report, options.baseline)
    return 0 if good else 1


def timed(call: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def matmul_peak(sizes: tuple[int, ...] = (512, 1024, 1536), rounds: int = 9) -> float:
    """The best fp32 matrix product this machine reaches, GFLOP/s: the ceiling for any network here.

    Over several sizes and over torch's and numpy's libraries, of which now one and now the other is the better.
    """
    best = 0.0
    for size in sizes:
        a, b = torch.rand(size, size), torch.rand(size, size)
        x, y = a.numpy(), b.numpy()
        products: tuple[Callable[[], object], ...] = (lambda a=a, b=b: a @ b, lambda x=x, y=y: x @ y)  # type: ignore[misc]
        fastest = min(timed(call) for _ in range(rounds) for call in products)
        best = max(best, 2 * size**3 / fastest / 1e6)
    return best


def spread(times: list[float]) -> dict[str, float]:
    """Median with the 10th and 90th percentile, milliseconds."""
    deciles = statistics.quantiles(times, n=10)
    return {
        "median_ms": round(statistics.median(times), 2),
        "p10_ms": round(deciles[0], 2),
        "p90_ms": round(deciles[-1], 2),
    }


def gigaflops(net: DepthNet, size: tuple[int, int]) -> float:
    """Floating point operations of one full-resolution forward pass, in 1e9."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        net.depth(torch.zeros(1, 3, *size))
    return counter.get_total_flops() / 1e9


def _compare(
    student: DepthNet, reference: DepthNet, size: tuple[int, int], peak: float, options: argparse.Namespace
) -> dict[str, Any]:
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    planar = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255

    def eager() -> None:
        with torch.inference_mode():
            reference.depth(planar)

    runs: dict[str, tuple[DepthNet, Callable[[], object]]] = {REFERENCE: (reference, eager)}
    kinds: tuple[tuple[EngineName, EnginePrecision], ...] = (
        ("torch", "fp32"), ("openvino", "fp32"), ("openvino", "auto")
    )  # fmt: skip
    for (name, precision), (label, net) in product(kinds, (("student", student), ("resnet18", reference))):
        try:
            engine: Engine = create_engine(net, size, EngineConfig(name, "cpu", options.threads, precision))
        except SsmdeError as error:
            # OpenVINO is optional; the table then says which row is missing and why.
            tqdm.write(f"left out: {label} {name}: {error}")
            continue
        # On a processor without sixteen bits "auto" is fp32 once more: the same row.
        runs[f"{label} {name} {engine.precision}"] = (net, lambda engine=engine: engine.infer(image))  # type: ignore[misc]
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in tqdm(range(options.rounds + 2), desc=f"{size[1]}x{size[0]}", disable=options.json):
        for row_name, (_, call) in runs.items():
            times[row_name].append(timed(call))
    rows: dict[str, Any] = {}
    reference_ms = statistics.median(times[REFERENCE][2:])
    for row_name, (net, _) in runs.items():
        row: dict[str, float] = spread(times[row_name][2:])
        flops = gigaflops(net, size)
        rate = flops / row["median_ms"] * 1e3
        rows[row_name] = row | {
            "speedup": round(reference_ms / row["median_ms"], 2), "gflop": round(flops, 3), "gflops": round(rate, 1), "share_of_peak": round(rate / peak, 3),
        }  # fmt: skip
    return rows


def _stages(reference: DepthNet, options: argparse.Namespace) -> dict[str, Any]:
    """The live path on a 640x480 image: before, in and after the network, and the cloud, in turns with the reference."""
    config = EngineConfig("torch", "cpu", options.threads, "fp32")  # which every machine has
    estimator = DepthEstimator(default_weights(), EstimatorConfig(config))
    image = np.random.default_rng(1).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    camera = PinholeCamera.from_hfov(640, 480, 1.0)
    calibration = CameraCalibration.from_pinhole(camera)
    build = CloudBuilder(camera, CloudConfig())
    small = torch.rand(1, 3, SIZES[0][1], SIZES[0][0])
    times: dict[str, list[float]] = {}
    for _ in range(options.rounds + 2):
        frame = estimator.estimate(image, calibration)
        found = {f"{name}_ms": value for name, value in frame.stages_ms.items()}
        found["cloud_ms"] = timed(lambda f=frame: build(f.depth, f.image))  # type: ignore[misc]
        with torch.inference_mode():
            found[f"{REFERENCE}_ms"] = timed(lambda: reference.depth(small))
        for name, value in found.items():
            times.setdefault(name, []).append(value)
    return {name: spread(values[2:]) for name, values in times.items()}
