"""`ssmde demo`: a recording through a real depth node, as separate processes over DDS."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from ssmde_ros.commands.live import NAMESPACE, LiveResult, LiveSetup, run_live
from ssmde_ros.commands.pictures import (
    render_cloud,
    side_by_side,
    titled,
    write_atomically,
    write_picture,
    write_ply,
)  # fmt: skip
from ssmde_ros.data.bags import COMPRESSED, Bag
from ssmde_ros.data.sample import sample_bag
from ssmde_ros.data.sources import open_source
from ssmde_ros.errors import SsmdeError
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime import color_depth
from ssmde_ros.runtime.models import check_model


def add_parser(commands: Any) -> None:
    """Add `demo` to the command line."""
    parser = commands.add_parser(
        "demo",
        help="play a recording to a depth node over DDS and show what comes back",
        description="Starts a player, the depth node and a recorder as separate processes, and leaves "
        "depth.png (input, depth, a view of the cloud), points.ply and summary.json in the output folder.",
        epilog=f"While it runs, `ros2 topic list` and RViz see the node under {NAMESPACE}.",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--bag", type=Path, help="rosbag2 folder or ROS 1 .bag; without one, the built-in sample")
    source.add_argument("--video", type=Path, help="video file or folder of images")
    parser.add_argument("--image-topic", help="needed when the bag has several")
    parser.add_argument("--camera-info-topic", help="needed when the bag has several")
    parser.add_argument(
        "--hfov", type=float, default=60.0, help="assumed field of view of a video, degrees (%(default)s)"
    )
    parser.add_argument("--rate", type=float, default=10.0, help="frames a second (%(default)s)")
    parser.add_argument("--weights", type=Path, help="weights file instead of the shipped student")
    parser.add_argument("-o", "--out", type=Path, default=Path("demo_output"), help="output folder (%(default)s)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demo. Frames that did not come back are counted in the summary and warned of."""
    setup, source = _setup(options)
    result = run_live(setup)
    options.out.mkdir(parents=True, exist_ok=True)
    summary = summarise(result) | {"source": source, "rate_hz": options.rate}
    if "points" in result.snapshot:
        summary["points"] = write_ply(options.out / "points.ply", result.snapshot["points"])
    write_picture(options.out / "depth.png", _picture(result))
    write_atomically(options.out / "summary.json", json.dumps(summary, indent=2).encode())
    print(json.dumps(summary, indent=2))
    print(f"look at {options.out / 'depth.png'}")
    if lost := summary["frames_in"] - summary["frames_out"]:
        print(
            f"{lost} of {summary['frames_in']} frames did not come back: this machine is too slow, or too busy, for it"
        )
    return 0


def _setup(options: argparse.Namespace) -> tuple[LiveSetup, str]:
    """What to play, and its name for the summary."""
    if not 0 < options.hfov < 180:
        raise SsmdeError(f"--hfov must lie between 0 and 180 degrees, got {options.hfov:g}")
    if not 0 < options.rate <= 1000:
        raise SsmdeError(f"--rate must lie between 0 and 1000 frames a second, got {options.rate:g}")
    # Here and not in the node, which would wait for better ones.
    check_model(options.weights or default_weights())
    parameters: dict[str, object] = {"weights": options.weights.resolve()} if options.weights else {}
    play = ["--rate", str(options.rate)]
    if options.video:
        with open_source(options.video) as source:
            count = source.count
        play += ["--video", str(options.video), "--hfov", str(options.hfov), "--count", str(count)]
        return LiveSetup(play, parameters), f"{options.video.name} (assumed field of view {options.hfov:g} degrees)"
    path = options.bag or sample_bag()
    with Bag(path) as bag:
        topic = bag.choose("image", options.image_topic, "--image-topic")
        if topic is None:
            raise SsmdeError(f"bag {path} has no image topic")
        info = bag.camera_info_for(topic, options.camera_info_topic)
    play += ["--bag", str(path), "--image-topic", topic.name, "--count", str(topic.count)]
    play += ["--camera-info-topic", info] if info else []
    parameters["image_transport"] = "compressed" if topic.msgtype == COMPRESSED else "raw"
    return LiveSetup(play, parameters), f"{path.name} {topic.name}" if options.bag else "built-in sample"


def percentiles(values: Any) -> dict[str, float]:
    """Median and 95th percentile, rounded; zeros when there is nothing."""
    p50, p95 = np.percentile(values, [50, 95]) if len(values) else (0.0, 0.0)
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}


def summarise(result: LiveResult) -> dict[str, Any]:
    """Counts, rates and latencies of a run."""
    depths = [entry for entry in result.received["depths"] if entry["stamp"] in result.sent]
    sizes = {stamp: [width, height] for stamp, width, height, _ in result.received["infos"]}
    arrivals = sorted(entry["mono"] for entry in depths)
    seconds = (arrivals[-1] - arrivals[0]) / 1e9 if len(arrivals) > 1 else 0.0
    told = result.received["diagnostics"]
    return {
        "frames_in": len(result.sent),
        "frames_out": len(depths),
        "frames_with_camera_info": sum(sizes.get(entry["stamp"]) == entry["size"] for entry in depths),
        "frame_ids": sorted({entry["frame_id"] for entry in depths}),
        "fps": round((len(arrivals) - 1) / seconds, 2) if seconds else 0.0,
        "latency_ms": percentiles(result.latencies_ms()),
        "inference_ms": {key: float(told.get(f"inference_ms_{key}", 0)) for key in ("p50", "p95")},
        "depth_size": depths[0]["size"] if depths else None,
        **{key: told.get(key, "") for key in ("engine", "device", "precision", "weights", "scale_kind", "codec")},
        "rmw": result.received["rmw"],
    }


def _picture(result: LiveResult) -> Any:
    """Input, depth and a view of the cloud; the input is read back from the colors of the cloud."""
    if "depth" not in result.snapshot:
        raise SsmdeError("no depth image came back: nothing to draw")
    depth = result.snapshot["depth"]
    finite = depth[np.isfinite(depth)]
    near, far = np.percentile(finite, [1, 99]) if len(finite) else (0.1, 80.0)
    panels = [titled(color_depth(depth, float(near) * 0.9, float(far) * 1.1), "depth")]
    points = result.snapshot.get("points")
    if points is not None:
        image = points.view(np.uint8).reshape(*depth.shape, 16)[..., 12:15]
        panels = [titled(image, "input, rectified"), *panels, titled(render_cloud(points, depth.shape), "points")]
    return side_by_side(panels)
