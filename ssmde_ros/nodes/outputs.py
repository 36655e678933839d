"""The depth node's publishers: each output is computed only while somebody listens to it."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header

from ssmde_ros.nodes.messages import camera_info_message, cloud_message, depth_message, image_message
from ssmde_ros.nodes.parameters import DepthNodeConfig
from ssmde_ros.runtime import CloudBuilder, DepthFrame, color_depth

# Reliable, because a reliable publisher serves best-effort subscribers too, and not the other way round.
_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
_CLOUD_QOS = QoSProfile(depth=2, reliability=ReliabilityPolicy.RELIABLE)


class Outputs:
    """Publishes what one frame gives."""

    def __init__(self, node: Node) -> None:
        self._depth = node.create_publisher(Image, "depth/image_rect", _QOS)
        self._info = node.create_publisher(CameraInfo, "depth/camera_info", _QOS)
        self._points = node.create_publisher(PointCloud2, "points", _CLOUD_QOS)
        self._color = node.create_publisher(Image, "depth/color", _QOS)
        self._confidence = node.create_publisher(Image, "depth/confidence", _QOS)
        self._builder: CloudBuilder | None = None

    def wanted(self) -> bool:
        """Whether anybody listens to anything."""
        everything = (self._depth, self._info, self._points, self._color, self._confidence)
        return any(publisher.get_subscription_count() for publisher in everything)

    def confidence_wanted(self, config: DepthNodeConfig) -> bool:
        """Whether the second inference is worth it."""
        return bool(config["confidence"]) and self._confidence.get_subscription_count() > 0

    def publish(self, header: Header, frame: DepthFrame, config: DepthNodeConfig) -> None:
        """Publish all outputs of a frame under the stamp and frame_id of its image."""
        # camera_info first: whoever pairs the two then finds it there when the image arrives.
        if frame.camera is not None and self._info.get_subscription_count():
            self._info.publish(camera_info_message(header, frame.camera))
        if self._depth.get_subscription_count():
            self._depth.publish(depth_message(header, frame.depth, config["depth_encoding"]))
        if frame.camera is not None and self._points.get_subscription_count():
            if self._builder is None or (self._builder.camera, self._builder.config) != (frame.camera, config.cloud):
                self._builder = CloudBuilder(frame.camera, config.cloud)
            self._points.publish(cloud_message(header, self._builder(frame.depth, frame.image)))
        if self._color.get_subscription_count():
            painted = color_depth(frame.depth, config["color.near"], config["color.far"])
            self._color.publish(image_message(header, painted, "bgr8"))
        if frame.confidence is not None:
            self._confidence.publish(image_message(header, frame.confidence, "32FC1"))
