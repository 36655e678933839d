"""Run one node until it is told to stop, and leave without a traceback however impatient the person is."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from ssmde_ros.memory import keep_freed_memory


def run(create: Callable[[], Node], args: list[str] | None = None) -> int:
    """Create a node, spin it, clean up on SIGINT, SIGTERM or a double SIGINT.

    Returns:
        Exit status: 0 after a clean end.
    """
    keep_freed_memory()
    # A list and no Event: a signal may interrupt the handler of the one before, which would wait for its own lock.
    interrupted: list[int] = []
    # Python would raise KeyboardInterrupt wherever it happens to be: in a half-built node, or for a second
    # Ctrl-C in the middle of cleaning up. rclpy's own handlers, which come on top, end the spinning instead.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: interrupted.append(number))
    rclpy.init(args=args)
    executor = SingleThreadedExecutor()
    node: Node | None = None
    try:
        node = create()
        executor.add_node(node)
        if not interrupted:
            executor.spin()
    except ExternalShutdownException:
        pass
    # While shutting down, rclpy refuses whatever a node under construction asks for, in its own exceptions.
    except Exception:
        if rclpy.ok() and not interrupted:
            raise
    finally:
        # Ignored, not handled: Python hands handled signals back to the system while it ends, and they kill it.
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
