"""Which weights the depth node runs: the `weights` parameter, its services, and promotions that are followed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from ssmde_ros.errors import SsmdeError
from ssmde_ros.nodes.loader import EstimatorLoader
from ssmde_ros.nodes.parameters import LATEST, DepthNodeConfig
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime.models import check_model


class WeightsControl:
    """Asks the loader for what the parameters say.

    Args:
        node: whose parameters and services these are.
        config: gives the parameters as they are now.
    """

    def __init__(self, node: Node, loader: EstimatorLoader, config: Callable[[], DepthNodeConfig]) -> None:
        self._node, self._loader, self._config = node, loader, config
        self._asked: Path | None = None
        node.create_service(Trigger, "~/load_weights", self._on_load_weights)
        node.create_service(Trigger, "~/rollback", self._on_rollback)

    def begin(self) -> None:
        """Load what the parameters say at start-up."""
        self._load(lambda *_: None)

    def follow(self, before: str | None = None) -> None:
        """Load when the parameters, or a promotion, say something new.

        Args:
            before: the parameter's value before it was changed; it comes back when the new weights are refused.
        """
        try:
            wanted = self._config().weights
        except SsmdeError as error:  # a generations folder somebody else is busy with
            self._loader.problem = str(error)
            return
        if wanted != self._asked:
            self._load((lambda *_: None) if before is None else self._take_back(before))

    def _load(self, answer: Callable[[bool, str], None]) -> None:
        config = self._config()
        try:
            self._asked = config.weights
        except SsmdeError as error:
            self._asked = None
            self._node.get_logger().error(f"{error}; using the shipped student")
        self._loader.start(self._asked, config.estimator, answer)

    def _take_back(self, old: str) -> Callable[[bool, str], None]:
        refused = self._config()["weights"]

        def answer(good: bool, _: str) -> None:
            executor = self._node.executor
            if not good and rclpy.ok() and executor is not None:
                executor.create_task(partial(self._restore, old, refused))

        return answer

    def _restore(self, old: str, refused: str) -> None:
        """The parameter tells again what runs; nothing is loaded for it.

        Args:
            old: value before the change.
            refused: value that did not come to run; when the parameter says something else by now, it is left alone.
        """
        if self._config()["weights"] == refused:
            running = self._loader.current
            self._tell(old if old == LATEST or running is None else _named(running.identity.path))

    def _tell(self, value: str) -> None:
        """Give the parameter a value, without loading anything for it."""
        config = self._config()
        config.values["weights"] = value
        self._asked = config.weights
        self._node.set_parameters([Parameter("weights", value=value)])

    def check(self, config: DepthNodeConfig) -> str:
        """Why the weights that new parameters name cannot be loaded; empty when they can."""
        try:
            check_model(config.weights or default_weights(), config.estimator.engine)
        except SsmdeError as error:
            return str(error)
        return ""

    def _on_load_weights(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Read the file once more, in the background.

        Answered before it runs: rclpy starves all other callbacks while a coroutine of a service waits. Whether the
        weights prove fit is in the log and in the diagnostics.
        """
        old = self._loader.identity
        try:
            config = self._config()
            new = check_model(config.weights or default_weights(), config.estimator.engine)
        except SsmdeError as error:
            response.success, response.message = False, f"{error}; still running {old}"
            return response
        self._load(lambda *_: None)
        response.success, response.message = True, f"loading {new} in the background, running {old} until then"
        return response

    def _on_rollback(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Run the weights again that ran before the last swap; they are still in memory."""
        old, previous = self._loader.identity, self._loader.rollback()
        response.success = previous is not None
        if previous is not None and self._config()["weights"] != LATEST:
            self._tell(_named(previous.path))
        if previous is None:
            response.message = f"there is nothing to go back to; still running {old}"
        else:
            response.message = f"going back to {previous} at the next frame, running {old} until then"
        return response


def _named(path: Path) -> str:
    """A weights file as the parameter names it: empty for the shipped student."""
    return "" if path == default_weights() else str(path)
