"""Real processes and real DDS for the node tests: a node process, and a peer that plays camera and listener."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_srvs.srv import Trigger

RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
PATIENCE = 40.0


class NodeProcess:
    """`python -m ssmde_ros.nodes.MODULE` with its output in a file."""

    def __init__(self, namespace, parameters=None, module="depth_node", env=None, extra=()):
        self.namespace = namespace
        words = [w for k, v in (parameters or {}).items() for w in ("-p", f"{k}:={v}")]
        command = [
            sys.executable,
            "-m",
            f"ssmde_ros.nodes.{module}",
            "--ros-args",
            "-r",
            f"__ns:={namespace}",
            *words,
            *extra,
        ]
        self._output = tempfile.NamedTemporaryFile("w+", suffix=".log", delete=False)  # noqa: SIM115, closed in stop
        self.process = subprocess.Popen(
            command, stdout=self._output, stderr=subprocess.STDOUT, env=os.environ | (env or {}), start_new_session=True
        )

    @property
    def text(self):
        return Path(self._output.name).read_text()

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, timeout=PATIENCE):
        """SIGINT; the exit status."""
        if self.process.poll() is None:
            self.signal(signal.SIGINT)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the node did not stop:\n{self.text}") from None
        finally:
            self._output.close()
            print(self.text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Peer(Node):
    """Camera and listener in one namespace."""

    def __init__(self, namespace, compressed=False, listen=("depth", "info"), qos=RELIABLE):
        super().__init__("peer", namespace=namespace)
        self.executor_ = SingleThreadedExecutor()
        self.executor_.add_node(self)
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self.image = self.create_publisher(kind, topic, qos_profile_sensor_data)
        self.info = self.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
        topics = {
            "depth": (Image, "depth/image_rect"), "info": (CameraInfo, "depth/camera_info"), "points": (PointCloud2, "points"),
            "color": (Image, "depth/color"), "confidence": (Image, "depth/confidence"),
        }  # fmt: skip
        self.got = {name: [] for name in topics}
        self.diagnostics = []
        for name in listen:
            self.create_subscription(*topics[name], self.got[name].append, qos)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.stamp = 100

    def _on_diagnostics(self, message):
        mine = self.get_namespace().rstrip("/") + "/depth_node"
        self.diagnostics += [s for s in message.status if s.name.startswith(mine)]

    def spin(self, until, timeout=PATIENCE, doing=None, every=0.1):
        """Spin until a condition holds, repeating an action meanwhile; whether it came to hold."""
        deadline, due = time.monotonic() + timeout, 0.0
        while not until():
            now = time.monotonic()
            if now > deadline:
                return False
            if doing is not None and now >= due:
                doing()
                due = now + every
            self.executor_.spin_once(timeout_sec=0.02)
        return True

    def send(self, image=None, info=None, encoding="rgb8", stamp=None, frame_id="camera_optical_frame"):
        """Publish an image with the next stamp, after its camera_info; the stamp in seconds."""
        self.stamp = self.stamp + 1 if stamp is None else stamp
        if info is not None:
            info.header.stamp.sec, info.header.frame_id = self.stamp, frame_id
            self.info.publish(info)
        message = picture(image if image is not None else IMAGE, encoding) if not hasattr(image, "header") else image
        message.header.stamp.sec, message.header.frame_id = self.stamp, frame_id
        self.image.publish(message)
        return self.stamp

    def exchange(self, timeout=PATIENCE, **what):
        """Send until depth comes back; the newest depth message."""
        before = len(self.got["depth"])
        arrived = self.spin(lambda: len(self.got["depth"]) > before, timeout, lambda: self.send(**what), every=0.5)
        assert arrived, f"no depth came back within {timeout} s"
        return self.got["depth"][-1]

    def settled(self, **what):
        """As `exchange`, but the answer to an image sent after all earlier ones were answered."""
        self.exchange(**what)
        self.spin(lambda: False, timeout=0.3)
        return self.exchange(**what)

    def status(self, condition=lambda _: True, timeout=PATIENCE, doing=None):
        """The next diagnostic status that meets a condition, its values as a dictionary."""
        self.diagnostics.clear()
        assert self.spin(lambda: any(condition(s) for s in self.diagnostics), timeout, doing), [
            s.message for s in self.diagnostics
        ]
        status = next(s for s in self.diagnostics if condition(s))
        return status, {pair.key: pair.value for pair in status.values}

    def call(self, kind, name, request, timeout=PATIENCE):
        client = self.create_client(kind, name)
        assert client.wait_for_service(timeout), f"no service {name}"
        future = client.call_async(request)
        assert self.spin(future.done, timeout), f"{name} did not answer"
        self.destroy_client(client)
        return future.result()

    def set(self, **values):
        """Set parameters of the depth node one by one; the last result."""
        pairs = [Parameter(name.replace("__", "."), value=value).to_parameter_msg() for name, value in values.items()]
        return self.call(SetParameters, "depth_node/set_parameters", SetParameters.Request(parameters=pairs)).results[
            -1
        ]

    def get(self, name):
        values = self.call(GetParameters, "depth_node/get_parameters", GetParameters.Request(names=[name])).values
        return Parameter.from_parameter_msg(ParameterMessage(name=name, value=values[0])).value

    def describe(self, *names):
        request = DescribeParameters.Request(names=list(names))
        return self.call(DescribeParameters, "depth_node/describe_parameters", request).descriptors

    def trigger(self, name):
        return self.call(Trigger, f"depth_node/{name}", Trigger.Request())

    def close(self):
        self.executor_.shutdown(timeout_sec=2)
        self.destroy_node()


def picture(values, encoding="rgb8"):
    values = np.ascontiguousarray(values)
    message = Image(height=values.shape[0], width=values.shape[1], encoding=encoding)
    message.step = values.strides[0]
    message.data = array("B", values.tobytes())
    return message


def camera_info(width=128, height=96, focal=100.0, **changes):
    message = CameraInfo(width=width, height=height, distortion_model="plumb_bob")
    message.d = [0.0] * 5
    message.k = [focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0]
    message.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    message.p = [focal, 0.0, width / 2, 0.0, 0.0, focal, height / 2, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def depth_of(message):
    """`[H, W]` of a depth message: metres for 32FC1, millimetres for 16UC1."""
    kind = {"32FC1": np.float32, "16UC1": np.uint16}[message.encoding]
    return np.frombuffer(message.data, kind).reshape(message.height, message.width)


IMAGE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


def start_ros():
    rclpy.init()


def stop_ros():
    rclpy.try_shutdown()
