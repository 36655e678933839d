"""Run one node until it is told to stop, and leave without a traceback however impatient the person is."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node


def run(create: Callable[[], Node], args: list[str] | None = None) -> int:
    """Create a node, spin it, clean up on SIGINT, SIGTERM or a double SIGINT.

    Returns:
        Exit status: 0 after a clean end.
    """
    rclpy.init(args=args)
    # rclpy wakes the executor on SIGINT and SIGTERM; Python's own KeyboardInterrupt may come on top.
    executor = SingleThreadedExecutor()
    node: Node | None = None
    try:
        node = create()
        executor.add_node(node)
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        # A second Ctrl-C during clean-up would interrupt it half-way.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        executor.shutdown(timeout_sec=2.0)
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0


def main_exit(create: Callable[[], Node]) -> None:
    """`run` as a program."""
    sys.exit(run(create))
