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
    "device": ("", "auto, cpu, cuda or cuda:N; left out, what the parameters say."),
    "use_sim_time": ("false", "Follow /clock."),
    "rviz": ("false", "Start RViz as well."),
    "log_level": ("info", "Log level of the node."),
}


def cameras_of(given: dict[str, str]) -> list[str]:
    """The namespaces in `cameras`; one without a name where none are given.

    Raises:
        RuntimeError: two cameras would share a name or a topic; launch prints the line.
    """
    cameras = [name.strip("/ ") for name in given["cameras"].split(",") if name.strip("/ ")]
    if len(set(cameras)) < len(cameras):
        raise RuntimeError(f"cameras:={given['cameras']} names one twice")
    for topic in ("image", "camera_info"):
        if cameras and given[topic].startswith("/"):
            raise RuntimeError(
                f"{topic}:={given[topic]} would be the same topic for all cameras: leave out the first slash"
            )
    return cameras or [""]


def overrides_of(given: dict[str, str], cameras: int) -> dict[str, str | bool | int]:
    """Only those parameters that were given: the rest stays with the parameter file."""
    names = ("weights", "generations", "device", "image_transport")
    overrides: dict[str, str | bool | int] = {name: given[name] for name in names if given[name]}
    overrides["use_sim_time"] = given["use_sim_time"].lower() in ("true", "1")
    if given["threads"]:
        if not given["threads"].isdecimal():
            raise RuntimeError(f"threads:={given['threads']} is no number of CPU threads")
        overrides["threads"] = int(given["threads"])
    elif cameras > 1:
        # Each engine would take all cores, and they would wait for one another.
        overrides["threads"] = max(1, (os.cpu_count() or 1) // cameras)
    return overrides


def everything(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """RViz when asked, of the first camera, and a depth node for each."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    if not Path(given["params_file"]).is_file():
        # launch_ros would only warn, and run on other values than were asked for.
        raise RuntimeError(f"params_file {given['params_file']} does not exist")
    cameras = cameras_of(given)
    spaces = ["/".join(part for part in (given["namespace"].rstrip("/"), camera) if part) for camera in cameras]
    remappings = [(topic, given[topic]) for topic in ("image", "camera_info") if given[topic]]
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        namespace=spaces[0],
        arguments=["-d", str(SHARE / "rviz" / "depth.rviz")],
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
    name = "FASTRTPS" if os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy") else "FASTDDS"
    variable = f"{name}_DEFAULT_PROFILES_FILE"
    profile = SetEnvironmentVariable(variable, os.environ.get(variable, str(SHARE / "config" / "fastdds.xml")))
    declared = [
        DeclareLaunchArgument(key, default_value=default, description=text)
        for key, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, profile, OpaqueFunction(function=everything)])
