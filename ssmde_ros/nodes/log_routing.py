"""What the other rooms log through Python's logging appears as a node's log."""

from __future__ import annotations

import logging

import rclpy
from rclpy.node import Node


def route_logging(node: Node) -> None:
    """From now on, INFO and above of this package."""
    handler, node_log = logging.Handler(), node.get_logger()

    def emit(record: logging.LogRecord) -> None:
        if not rclpy.ok():
            return
        # Two lines: rclpy holds each line of code to the severity that it logged first.
        if record.levelno >= logging.WARNING:
            node_log.warning(record.getMessage())
        else:
            node_log.info(record.getMessage())

    handler.emit = emit  # type: ignore[method-assign]
    logger = logging.getLogger("ssmde_ros")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
