"""The depth node: camera images in, depth images and point clouds out.

ros2 run ssmde_ros depth_node --ros-args --params-file config/depth.yaml -r image:=/camera/image_raw
python -m ssmde_ros.nodes.depth_node --ros-args -p weights:=/path/to/student.safetensors
"""

from __future__ import annotations

import threading
import time
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_srvs.srv import Trigger

from ssmde_ros.data.images import ImageFormatError
from ssmde_ros.nodes.cameras import CameraTracker
from ssmde_ros.nodes.codec import choose_codec
from ssmde_ros.nodes.drift_watch import DriftWatch
from ssmde_ros.nodes.health import Health
from ssmde_ros.nodes.loader import EstimatorLoader
from ssmde_ros.nodes.log_routing import route_logging
from ssmde_ros.nodes.newest import Newest
from ssmde_ros.nodes.outputs import Outputs
from ssmde_ros.nodes.parameters import LATEST, DepthNodeConfig, declare, proposed
from ssmde_ros.nodes.spin import main_exit
from ssmde_ros.nodes.throttle import Throttle
from ssmde_ros.nodes.weights_control import WeightsControl
from ssmde_ros.runtime import DepthEstimator

_THROTTLE = 5.0  # seconds between repetitions of one warning


class DepthNode(Node):
    """Executor thread: takes messages. Worker thread: newest image to depth. Neither waits for the other."""

    _running = False  # true from when the threads run

    def __init__(self, **options: Any) -> None:
        super().__init__("depth_node", **options)
        route_logging(self)
        self._config, complaints = declare(self)
        for line in complaints:
            self.get_logger().warning(line)
        self._codec, passed_over = choose_codec()
        if passed_over:
            self.get_logger().warning(f"{passed_over}; decoding with {self._codec.name}")
        self._health, self._outputs = Health(), Outputs(self)
        self._throttle, self._drift = Throttle(_THROTTLE), DriftWatch()
        self._newest: Newest[tuple[Any, float]] = Newest()
        self._loader = EstimatorLoader(self._report_load, self.get_logger().error)
        self._subscribe()
        self.add_on_set_parameters_callback(self._validate)
        if hasattr(self, "add_post_set_parameters_callback"):  # from Iron on
            self.add_post_set_parameters_callback(self._adopt)
        self._control = WeightsControl(self, self._loader, lambda: self._config)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady time: diagnostics go on when a simulation's clock stands still.
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        # Threads last: from here on nothing can fail and leave them behind.
        self._running = True
        self._worker = threading.Thread(target=self._work, name="depth", daemon=True)
        self._worker.start()
        self._control.begin()

    def _subscribe(self) -> None:
        reliability = ReliabilityPolicy[self._config["qos_reliability"].upper()]
        qos = QoSProfile(depth=self._config["qos_depth"], reliability=reliability)
        image = self.resolve_topic_name("image")
        remapped = image != self.resolve_topic_name("image", only_expand=True)
        info = self.resolve_topic_name("camera_info")
        if remapped and info == self.resolve_topic_name("camera_info", only_expand=True):
            # The convention of image_pipeline: camera_info lies beside its image.
            info = image.rsplit("/", 1)[0] + "/camera_info"
        compressed = self._config["image_transport"] == "compressed"
        if compressed:
            given = self.resolve_topic_name("image/compressed")
            plain = given == self.resolve_topic_name("image/compressed", only_expand=True)
            image = f"{image}/compressed" if plain else given
        self._image_topic, self._cameras = image, CameraTracker(image)
        # Created before the image's: when both wait, the executor takes camera_info first.
        # Best-effort whatever the images are: it hears reliable and best-effort drivers alike.
        self.create_subscription(CameraInfo, info, self._cameras.update, qos_profile_sensor_data)
        self.create_subscription(CompressedImage if compressed else Image, image, self._on_image, qos)
        self.get_logger().info(
            f"images from {self._image_topic}, camera_info from {info}, decoded by {self._codec.name}"
        )

    def _report_load(self, text: str) -> None:
        if rclpy.ok():  # a load may finish while everything is being taken down
            self.get_logger().info(text)

    def _warn(self, text: str) -> None:
        self._throttle(self.get_logger().warning, text)

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._health.arrived()
        self._newest.put((message, time.perf_counter()))

    def _work(self) -> None:
        """The worker thread: one frame after the other, newest first, until the node ends."""
        while self._running:
            self._loader.swap()
            if self._loader.current is None:
                # The newest frame waits for the first weights; those that it replaces are not dropped for slowness.
                time.sleep(0.02)
                self._newest.dropped = 0
                continue
            item = self._newest.take(timeout=0.1)
            self._loader.swap()
            estimator = self._loader.current
            if item is None or not self._outputs.wanted():
                continue
            try:
                self._process(estimator, *item)
            except ImageFormatError as error:
                self._health.failed(str(error))
                self._warn(f"{self._image_topic}: {error}")
            # One bad frame, whatever it breaks, must not stop the frames after it.
            except Exception as error:
                if self._running and rclpy.ok():
                    why = f"{type(error).__name__}: {error}"
                    self._health.failed(why)
                    self._warn(f"frame skipped: {why}")

    def _process(self, estimator: DepthEstimator, message: Any, received: float) -> None:
        config, started = self._config, time.perf_counter()
        decode = self._codec.compressed if isinstance(message, CompressedImage) else self._codec.image
        image = decode(message)
        decoded = time.perf_counter()
        size = (image.shape[1], image.shape[0])
        calibration = self._cameras.wait_for(size, config["camera_info_timeout"])
        if calibration is None:
            self._warn(f"{self._cameras.problem}: depth is published without camera_info and points")
        estimator.config = config.estimator
        frame = estimator.estimate(image, calibration, self._outputs.confidence_wanted(config))
        estimated = time.perf_counter()
        self._loader.saw(image, calibration, frame.depth, estimator.config)
        self._outputs.publish(message.header, frame, config)
        now = time.perf_counter()
        stages = {"wait": started - received, "decode": decoded - started, "publish": now - estimated}
        milliseconds = {name: 1e3 * seconds for name, seconds in stages.items()} | frame.stages_ms
        self._health.published(1e3 * (now - received), milliseconds, image)
        self._drift.look(estimator, frame)

    def _validate(self, changes: list[Parameter]) -> SetParametersResult:
        """Accept or refuse changes as a whole; nothing is changed here (Humble excepted, which has no later hook)."""
        config = proposed(self._config, changes)
        if isinstance(config, SetParametersResult):
            return config
        if config["weights"] != self._config["weights"] and (why := self._control.check(config)):
            return SetParametersResult(successful=False, reason=why)
        if not hasattr(self, "add_post_set_parameters_callback"):
            self._adopt(changes)
        return SetParametersResult(successful=True)

    def _adopt(self, changes: list[Parameter]) -> None:
        config = proposed(self._config, changes)
        assert isinstance(config, DepthNodeConfig), "validated a moment ago"
        before, self._config = self._config["weights"], config
        self._control.follow(before)

    def _on_reset(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Forget statistics."""
        self._health.reset()
        self._newest.dropped = 0
        response.success, response.message = True, "statistics cleared"
        return response

    def _report(self) -> None:
        if self._config["weights"] == LATEST:
            self._control.follow()
        estimator, problems, fatal = self._loader.current, [], []
        listened = self._outputs.wanted()
        facts: dict[str, object] = {
            "codec": self._codec.name,
            "image_topic": self._image_topic,
            "listened_to": listened,
            "drift": self._drift.score,
        }
        if estimator is not None:
            engine = estimator.engine
            facts |= {
                "engine": engine.name, "device": engine.device, "precision": engine.precision,
                "weights": estimator.identity, "scale_kind": estimator.identity.config.scale_kind,
            }  # fmt: skip
        elif self._loader.problem:
            fatal.append(f"no depth: {self._loader.problem}")
        else:
            problems.append("no depth yet: the weights are loading")
        if self._loader.problem and estimator is not None:
            problems.append(f"new weights refused: {self._loader.problem}")
        if advice := self._drift.advice:
            problems.append(advice)
        if self._cameras.problem and self._health.frames_out:
            problems.append(self._cameras.problem)
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        status = self._health.status(facts, self._newest.dropped, problems, fatal, expecting=listened)
        status.name = f"{self.get_fully_qualified_name()}: depth"
        status.hardware_id = estimator.engine.device if estimator is not None else ""
        array.status = [status]
        self._diagnostics.publish(array)

    def destroy_node(self) -> None:
        """Stop the threads, then the node: torch and OpenVINO abort when Python ends beneath them."""
        if self._running:
            self._running = False
            self._loader.stop()
            self._cameras.close()
            self._worker.join(timeout=5.0)
            self._loader.join(timeout=20.0)
        super().destroy_node()


def main() -> None:
    """Entry point of the `depth_node` executable."""
    main_exit(DepthNode)


if __name__ == "__main__":
    main()
