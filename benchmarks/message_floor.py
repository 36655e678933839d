"""How much of the latency over DDS is messages: the depth node against a node that answers every image with an empty depth.

    python benchmarks/message_floor.py --seconds 8 --rounds 3

Both answer the same camera with an Image of the same size, in turns, and the same recorder takes the time; what the echo takes
no node written with rclpy can save. The module is the echo itself when it is run as a node.
"""

from __future__ import annotations

import argparse
import sys
from array import array
from statistics import median

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import Image

from ssmde_ros.commands.bench_live import summarise
from ssmde_ros.commands.live import LiveSetup, run_live
from ssmde_ros.nodes.spin import main_exit


class Echo(Node):
    """Publishes a 32FC1 image of zeros for every image, in the callback."""

    def __init__(self) -> None:
        super().__init__("depth_node")
        self._depth = self.create_publisher(
            Image, "depth/image_rect", QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        )
        self._answer = Image(encoding="32FC1")
        self.create_subscription(Image, "image", self._on_image, qos_profile_sensor_data)

    def _on_image(self, message: Image) -> None:
        answer, size = self._answer, 4 * message.width * message.height
        if len(answer.data) != size:
            answer.height, answer.width, answer.step = message.height, message.width, 4 * message.width
            answer.data = array("B", bytes(size))
        answer.header = message.header
        self._depth.publish(answer)


def main() -> None:
    """Run both in turns and print their latencies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="640x480", metavar="WxH", help="of the images (640x480)")
    parser.add_argument("--rate", type=float, default=30.0, help="images a second (30)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each run (8)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each (3)")
    options = parser.parse_args()
    play = ["--drawn", options.size, "--rate", str(options.rate), "--seconds", str(options.seconds)]
    kinds = {"echo": "benchmarks.message_floor", "depth node": LiveSetup.node}
    found: dict[str, list[float]] = {name: [] for name in [*kinds, "network"]}
    for _ in range(options.rounds):
        for name, module in kinds.items():
            report = summarise(run_live(LiveSetup(play, node=module, points=False, snapshots=False)), False)
            found[name].append(report["latency_ms"]["p50"])
            if name == "depth node":
                found["network"].append(float(report["node"]["inference_ms_p50"]))
    for name, times in found.items():
        print(f"{name:10} p50 {median(times):5.1f} ms ({min(times):.1f} to {max(times):.1f})")
    echo, node, network = (median(times) for times in found.values())
    print(
        f"node over network {node / network:.2f}, messages alone and network over network {(echo + network) / network:.2f}"
    )


if __name__ == "__main__":
    if "--ros-args" in sys.argv:
        main_exit(Echo)
    else:
        main()
