"""Fine-tune on a recording, beside a running depth node if there is one: `ros2 launch ssmde_ros train.launch.py bag:=BAG`."""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from ssmde_ros.resources import dds_profile_variable

SHARE = Path(get_package_share_directory("ssmde_ros"))

ARGUMENTS = {
    "bag": ("", "Recording to learn from: rosbag2 folder, ROS 1 .bag, video or folder of images."),
    "params_file": (str(SHARE / "config" / "train.yaml"), "Parameters of the trainer node (YAML)."),
    "out": ("", "Folder of the generations; left out, what the parameters say."),
    "minutes": ("", "Minutes of training; left out, what the parameters say."),
    "deploy_to": ("", "Depth node that is told of a promoted generation, such as /depth_node."),
    "fresh": ("", "true starts anew, whatever unfinished run lies in the output folder."),
    "nice": (
        "",
        "Niceness, 0 to 19, so that a depth node beside it goes first; left out, what the parameters say (19).",
    ),
    "threads": ("", "CPU threads of the training; left out, what the parameters say (all but one core)."),
    "namespace": ("", "Namespace of the node and its topics."),
    "log_level": ("info", "Log level of the node."),
}


def trainer_node(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The node, with only those overrides that were given: what is left empty stays with the parameter file."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    if not Path(given["params_file"]).is_file():
        # launch_ros would only warn, and run on other values than were asked for.
        raise RuntimeError(f"params_file {given['params_file']} does not exist")
    overrides = {name: given[name] for name in ("bag", "out", "deploy_to") if given[name]}
    typed = {"minutes": float, "nice": int, "threads": int, "fresh": lambda text: text.lower() == "true"}
    overrides |= {name: kind(given[name]) for name, kind in typed.items() if given[name]}
    return [
        Node(
            package="ssmde_ros",
            executable="trainer_node",
            name="trainer_node",
            namespace=given["namespace"],
            parameters=[given["params_file"], overrides],
            arguments=["--ros-args", "--log-level", given["log_level"]],
            output="screen",
            # The step under way and its checkpoint are finished first.
            sigterm_timeout="60",
        )
    ]


def generate_launch_description() -> LaunchDescription:
    """Everything `ros2 launch` needs."""
    # As in depth.launch.py: the node publishes images, and listeners with the profile hear them best.
    variable = dds_profile_variable()
    profile = SetEnvironmentVariable(variable, os.environ.get(variable, str(SHARE / "config" / "fastdds.xml")))
    declared = [
        DeclareLaunchArgument(key, default_value=default, description=text)
        for key, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, profile, OpaqueFunction(function=trainer_node)])
