"""Start the depth node, and RViz when asked: `ros2 launch ssmde_ros depth.launch.py image:=/camera/image_raw`.

Several cameras: `cameras:=front,rear image:=image_raw` starts a node in each of these namespaces.
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from ssmde_ros.errors import SsmdeError
from ssmde_ros.launch_arguments import cameras_of, overrides_of
from ssmde_ros.resources import dds_profile_variable

SHARE = Path(get_package_share_directory("ssmde_ros"))

ARGUMENTS = {
    "params_file": (str(SHARE / "config" / "depth.yaml"), "Parameters of the depth node (YAML)."),
    "image": ("image", "Image topic, without /compressed."),
    "camera_info": ("", "camera_info topic; left out, the one beside the image."),
    "image_transport": ("", "raw or compressed; left out, what the parameters say."),
    "namespace": ("", "Namespace of the node and its topics."),
    "cameras": (
        "",
        "Namespaces of several cameras (front,rear), below `namespace`: a node for each, in its own process.",
    ),
    "threads": (
        "",
        "CPU threads of each engine; left out, what the parameters say, or of several cameras an equal share.",
    ),
    "weights": (
        "",
        "Weights file, exported file, or latest: what is promoted in `generations`; left out, what the parameters say.",
    ),
    "generations": ("", "Output folder of the fine-tunes that latest follows; left out, what the parameters say."),
    "engine": (
        "",
        "auto, openvino, onnxruntime, torch or tensorrt; left out, what the parameters say.",
    ),
    "device": ("", "auto, cpu, cuda or cuda:N; left out, what the parameters say."),
    "precision": ("", "auto or fp32; left out, what the parameters say."),
    "use_sim_time": ("false", "Follow /clock."),
    "rviz": ("false", "Start RViz as well."),
    "rviz_frame": ("camera_optical_frame", "Fixed frame of RViz: the frame_id of the images."),
    "log_level": ("info", "Log level of the node."),
}


def everything(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """RViz when asked, of the first camera, and a depth node for each."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    if not Path(given["params_file"]).is_file():
        # launch_ros would only warn, and run on other values than were asked for.
        raise SsmdeError(f"params_file {given['params_file']} does not exist")
    cameras = cameras_of(given)
    spaces = ["/".join(part for part in (given["namespace"].rstrip("/"), camera) if part) for camera in cameras]
    remappings = [(topic, given[topic]) for topic in ("image", "camera_info") if given[topic]]
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=spaces[0],
        arguments=["-d", str(SHARE / "rviz" / "depth.rviz"), "-f", given["rviz_frame"]],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    nodes = [
        Node(
            package="ssmde_ros",
            executable="depth_node",
            name="depth_node",
            namespace=space,
            parameters=[given["params_file"], overrides_of(given, len(cameras))],
            remappings=remappings,
            arguments=["--ros-args", "--log-level", given["log_level"]],
            output="screen",
            # Weights that are being loaded when the end comes are loaded to the end first.
            sigterm_timeout="25",
        )
        for space in spaces
    ]
    # RViz first: where it is not installed the launch ends there, and must not leave a node behind.
    return [rviz, *nodes]


def generate_launch_description() -> LaunchDescription:
    """Everything `ros2 launch` needs."""
    # Large shared-memory segments, see config/fastdds.xml; a profile of your own is left alone.
    variable = dds_profile_variable()
    profile = SetEnvironmentVariable(variable, os.environ.get(variable, str(SHARE / "config" / "fastdds.xml")))
    declared = [
        DeclareLaunchArgument(key, default_value=default, description=text)
        for key, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, profile, OpaqueFunction(function=everything)])
