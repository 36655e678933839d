"""Telling a depth node to run a promoted generation."""

from __future__ import annotations

import threading
from pathlib import Path

from rcl_interfaces.srv import SetParameters
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.task import Future

_PATIENCE = 5.0  # seconds that the depth node may take to appear


class Deployment:
    """Sets the `weights` parameter of another node.

    Args:
        node: that asks.
        target: name of the depth node; empty for none.
    """

    def __init__(self, node: Node, target: str) -> None:
        self._node, self._target = node, target
        self._client = node.create_client(SetParameters, f"{target}/set_parameters") if target else None
        self._answered = threading.Event()
        self._answered.set()

    def send(self, weights: Path) -> None:
        """Ask, from any thread; what the depth node answers is logged."""
        if self._client is None:
            return
        if not self._client.wait_for_service(_PATIENCE):
            self._node.get_logger().warning(f"{self._target} is not there; the generation is promoted all the same")
            return
        request = SetParameters.Request()
        request.parameters = [Parameter("weights", value=str(weights.resolve())).to_parameter_msg()]
        self._answered.clear()
        self._client.call_async(request).add_done_callback(self._done)

    def _done(self, future: Future) -> None:
        result = future.result()
        log = self._node.get_logger()
        if result is not None and result.results and result.results[0].successful:
            log.info(f"{self._target} loads the new generation")
        else:
            why = result.results[0].reason if result is not None and result.results else "no answer"
            log.warning(f"{self._target} refuses the new generation: {why}")
        self._answered.set()

    def wait(self, timeout: float) -> None:
        """Until the answer is there, or `timeout` seconds are over."""
        self._answered.wait(timeout)
