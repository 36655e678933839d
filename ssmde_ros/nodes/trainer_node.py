"""The trainer node: fine-tunes on a recording, shows how it goes, and tells a depth node when the result is better.

ros2 launch ssmde_ros train.launch.py bag:=my_bag deploy_to:=/depth_node
python -m ssmde_ros.nodes.trainer_node --ros-args --params-file config/train.yaml -p bag:=my_bag
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Float32, Header
from std_srvs.srv import Trigger

from ssmde_ros.errors import SsmdeError
from ssmde_ros.nodes.deploy import Deployment
from ssmde_ros.nodes.dotted import flattened, nested
from ssmde_ros.nodes.log_routing import route_logging
from ssmde_ros.nodes.messages import image_message
from ssmde_ros.nodes.spin import run
from ssmde_ros.nodes.training_monitor import TrainingMonitor
from ssmde_ros.resources import find_resource
from ssmde_ros.training.finetune import fine_tune
from ssmde_ros.training.finetune_config import DEFAULTS, FineTuneConfig, parse_fine_tune, read_parameters
from ssmde_ros.training.generations import Generations
from ssmde_ros.training.interruption import Interruption, RunInterruptedError

_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_OWN: dict[str, tuple[Any, str]] = {
    "deploy_to": ("", "Depth node that is told of a promoted generation, such as /depth_node; empty for none."),
    "nice": (19, "Niceness of this process, so that a depth node beside it goes first; 0..19."),
    "threads": (0, "CPU threads of the training; 0 leaves one core to others where there are several."),
    "gpu_memory": (1.0, "Share of the GPU's memory that training may use, (0, 1]."),
    "fresh": (False, "Start anew, whatever unfinished run lies in the output folder."),
    "exit_when_done": (True, "End the node when the training has ended."),
}
_LAST_REPORTS = 2  # after the end, so that listeners hear of it
_PICTURES = ("input", "depth", "mask", "dynamic")


class TrainerNode(Node):
    """Executor thread: parameters, services, reports. Another thread: the fine-tune."""

    _thread: threading.Thread | None = None
    _last_reports: int | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__("trainer_node", automatically_declare_parameters_from_overrides=True, **options)
        route_logging(self)
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # its devices and tips
        self.status = 0
        self._interruption = Interruption()
        self._monitor = TrainingMonitor()
        self._state, self._line = "starting", ""
        own, config = self._settings()
        self._own, self._config = own, config
        self._deployment = Deployment(self, own["deploy_to"])
        self._progress = self.create_publisher(Float32, "~/progress", _LATCHED)
        self._pictures = {name: self.create_publisher(Image, f"~/{name}", _LATCHED) for name in _PICTURES}
        self._losses: dict[str, Any] = {}
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        for name, answer in (("pause", self._on_pause), ("resume", self._on_resume), ("stop", self._on_stop)):
            self.create_service(Trigger, f"~/{name}", answer)
        self.add_on_set_parameters_callback(_refuse)
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._limit()
        self._thread = threading.Thread(target=self._train, name="train", daemon=True)
        self._thread.start()

    def _settings(self) -> tuple[dict[str, Any], FineTuneConfig]:
        """Defaults of the shipped parameter file, what was given over them.

        Raises:
            SsmdeError: a parameter that is unknown or out of range.
        """
        for name, (default, text) in _OWN.items():
            if not self.has_parameter(name):
                self.declare_parameter(name, default, ParameterDescriptor(description=text, read_only=True))
        for name, default in flattened(read_parameters(find_resource(DEFAULTS))).items():
            if not self.has_parameter(name):
                self.declare_parameter(name, default, ParameterDescriptor(read_only=True))
        found = {name: p.value for name, p in self.get_parameters_by_prefix("").items()}
        own = {name: found.pop(name) for name in _OWN}
        for name in ("use_sim_time", "start_type_description_service"):
            found.pop(name, None)
        given = {name: value for name, value in found.items() if not name.startswith("qos_overrides.")}
        config = parse_fine_tune(nested(given), "parameters")
        if not config.bag:
            raise SsmdeError("parameter bag is empty: name a recording (bag:=my_bag)")
        return own, config

    def _limit(self) -> None:
        """Leave room for a depth node beside."""
        os.nice(max(0, min(19, int(self._own["nice"]))))
        cores = os.cpu_count() or 1
        torch.set_num_threads(self._own["threads"] or max(1, cores - 1))
        if torch.cuda.is_available() and 0 < self._own["gpu_memory"] < 1:
            torch.cuda.set_per_process_memory_fraction(self._own["gpu_memory"])

    def _train(self) -> None:
        self._state = "training"
        try:
            generation, verdict = fine_tune(
                self._config,
                [self._monitor, self._interruption],
                resume=not self._own["fresh"],
                enable_progress_bar=False,
            )
            self._line = f"generation {generation.name} is {generation.state}: {verdict.reason}"
            self._state = "done"
            self.get_logger().info(self._line)
            if verdict.promoted:
                generations = Generations(Path(self._config.out).expanduser())
                self._deployment.send(generations.weights(generation))
        except RunInterruptedError as error:
            self._state, self._line = "stopped", str(error)
            self.get_logger().info(self._line)
        except SsmdeError as error:
            self._fail(str(error))
        # Whatever breaks in a thread is seen by nobody unless it is said here.
        except Exception as error:
            self._fail(f"{type(error).__name__}: {error}")
        finally:
            self._deployment.wait(10.0)
            self._last_reports = _LAST_REPORTS

    def _fail(self, line: str) -> None:
        self._state, self._line, self.status = "failed", line, 1
        if rclpy.ok():
            self.get_logger().error(line)

    @property
    def _running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _on_pause(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._interruption.paused = True
        response.success, response.message = self._running, "pausing after the step under way"
        return response

    def _on_resume(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._interruption.paused = False
        response.success, response.message = self._running, "going on"
        return response

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._interruption.ask("the stop service")
        response.success = self._running
        response.message = "finishing the step and its checkpoint; the same bag and folder go on from there"
        return response

    def _report(self) -> None:
        seen = self._monitor.snapshot()
        self._progress.publish(Float32(data=1.0 if self._state == "done" else seen.progress))
        for name, value in seen.losses.items():
            topic = f"~/loss/{name}"
            if topic not in self._losses:
                self._losses[topic] = self.create_publisher(Float32, topic, 10)
            self._losses[topic].publish(Float32(data=value))
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id="training")
        for name, picture in self._monitor.take_pictures().items():
            if name in self._pictures:
                self._pictures[name].publish(image_message(header, picture, "bgr8"))
        state = "paused" if self._interruption.paused and self._state == "training" else self._state
        level = DiagnosticStatus.ERROR if state == "failed" else DiagnosticStatus.OK
        status = DiagnosticStatus(level=level, name=f"{self.get_fully_qualified_name()}: training")
        status.message = self._line or f"{state}{', ' + seen.told() if seen.step else ''}"
        facts = {"state": state, "bag": self._config.bag, "out": self._config.out, **seen.facts()}
        status.values = [KeyValue(key=key, value=str(value)) for key, value in facts.items()]
        array = DiagnosticArray(status=[status])
        array.header.stamp = header.stamp
        self._diagnostics.publish(array)
        if self._last_reports is not None and self._own["exit_when_done"]:
            self._last_reports -= 1
            if self._last_reports == 0:
                raise ExternalShutdownException  # ends the spinning; the training thread must not tear down its node

    def destroy_node(self) -> None:
        """Finish the step under way and its checkpoint, then end."""
        if self._thread is not None:
            self._interruption.ask("shutdown")
            self._thread.join(timeout=60.0)
        super().destroy_node()


def _refuse(_: list[Parameter]) -> SetParametersResult:
    return SetParametersResult(successful=False, reason="fixed while it trains: stop it, and start it with the change")


def main() -> None:
    """Entry point of the `trainer_node` executable; exit status 1 when the fine-tune failed."""
    nodes: list[TrainerNode] = []

    def create() -> TrainerNode:
        nodes.append(TrainerNode())
        return nodes[-1]

    try:
        status = run(create)
    except SsmdeError as error:
        sys.exit(f"trainer_node: {error}")
    sys.exit(status or max((node.status for node in nodes), default=0))


if __name__ == "__main__":
    main()
