"""Which weights the depth node runs: the `weights` parameter, its services, and promotions that are followed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.task import Future
from std_srvs.srv import Trigger

from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import load_depth_net
from ssmde_ros.nodes.loader import EstimatorLoader
from ssmde_ros.nodes.parameters import DepthNodeConfig
from ssmde_ros.resources import default_weights


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
        def answer(good: bool, _: str) -> None:
            executor = self._node.executor
            if not good and rclpy.ok() and executor is not None:
                executor.create_task(partial(self._restore, old))

        return answer

    def _restore(self, old: str) -> None:
        """The parameter tells again what runs; nothing is loaded for it."""
        config = self._config()
        config.values["weights"] = old
        self._asked = config.weights
        self._node.set_parameters([Parameter("weights", value=old)])

    def check(self, config: DepthNodeConfig) -> str:
        """Why the weights that new parameters name cannot be loaded; empty when they can."""
        try:
            load_depth_net(config.weights or default_weights())
        except SsmdeError as error:
            return str(error)
        return ""

    async def _on_load_weights(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Read the file once more, in the background, and answer when it runs or is refused."""
        return await self._answered(response, self._load)

    async def _on_rollback(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Run the weights again that ran before the last swap."""
        return await self._answered(response, self._loader.rollback)

    async def _answered(
        self, response: Trigger.Response, ask: Callable[[Callable[[bool, str], None]], None]
    ) -> Trigger.Response:
        """The executor goes on with other things until the worker has answered."""
        done: Future = Future(executor=self._node.executor)
        ask(lambda good, text: done.set_result((good, text)))
        response.success, response.message = await done
        return response
