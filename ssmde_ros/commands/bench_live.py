"""`ssmde bench --live`: a camera at full rate through the depth node, in separate processes over DDS."""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from ssmde_ros.commands.demo import percentiles
from ssmde_ros.commands.live import LiveResult, LiveSetup, run_cameras
from ssmde_ros.launch_arguments import fair_threads


def run_live_bench(options: argparse.Namespace) -> int:
    """Play, then print rates, latencies and memory; of several cameras one after the other."""
    frames = str(round(options.seconds * options.rate))
    play = ["--drawn", options.size, "--rate", str(options.rate), "--seconds", str(options.seconds), "--count", frames]
    threads = options.threads
    if not threads and options.cameras > 1:
        threads = fair_threads(options.cameras)
    setup = LiveSetup(
        play, {"threads": threads, "precision": options.precision}, points=options.points, snapshots=False
    )
    results = [summarise(result, options.points) for result in run_cameras([setup] * options.cameras)]
    report: dict[str, Any] = results[0]
    if options.cameras > 1:
        report = {"depth_hz": round(sum(result["depth_hz"] for result in results), 2), "cameras": results}
    print(json.dumps(report, indent=None if options.json else 2))
    return 0


def summarise(result: LiveResult, with_points: bool) -> dict[str, Any]:
    """Rates over the whole run, latency from stamp to receipt, and whether anything grows."""
    arrivals = np.array([e["mono"] for e in result.received["depths"] if e["stamp"] in result.sent]) / 1e9
    # Stamp to receipt: the stamps of drawn frames are the clock's.
    ages = np.array([e["age"] for e in result.received["depths"] if e["stamp"] in result.sent]) / 1e6
    seconds = arrivals[-1] - arrivals[0]
    first, last = ages[arrivals < arrivals[0] + 10], ages[arrivals > arrivals[-1] - 10]
    # Resident memory of the node over the run, in six parts; the first holds the start-up.
    memory = [float(np.median(part)) for part in np.array_split(result.node_memory_mb, 6) if len(part)]
    inference = float(result.received["diagnostics"].get("inference_ms_p50", 0))
    first_depth = (min(e["mono"] for e in result.received["depths"]) - result.node_started) / 1e9
    report: dict[str, Any] = {
        "start_to_first_depth_s": round(first_depth, 2),
        "frames_in": len(result.sent),
        "frames_out": len(arrivals),
        "depth_hz": round((len(arrivals) - 1) / seconds, 2) if seconds else 0.0,
        "latency_ms": percentiles(ages),
        "latency_p50_over_inference": round(float(np.median(ages)) / inference, 2) if inference else None,
        "latency_first_10_s_ms": percentiles(first),
        "latency_last_10_s_ms": percentiles(last),
        "node_memory_mb": [round(part, 1) for part in memory],
        "node_cpu_ms_per_frame": round(1e3 * result.node_cpu_seconds / max(len(arrivals), 1), 1),
        "node": {
            k: v
            for k, v in result.received["diagnostics"].items()
            if k.endswith(("_p50", "_p95")) or k in ("engine", "precision")
        },
    }
    if with_points:
        clouds = np.array([mono for stamp, mono in result.received["points"] if stamp in result.sent]) / 1e9
        report["points_hz"] = round((len(clouds) - 1) / (clouds[-1] - clouds[0]), 2) if len(clouds) > 1 else 0.0
        report["clouds"] = len(clouds)
    return report
