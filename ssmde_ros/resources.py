"""Files that travel with the package: weights, configuration, DDS profile."""

from __future__ import annotations

import os
from pathlib import Path

from ssmde_ros.errors import SsmdeError

DEFAULT_WEIGHTS = "models/student-tiny.safetensors"
POSE_WEIGHTS = "models/pose.safetensors"
DDS_PROFILE = "config/fastdds.xml"


def find_resource(name: str) -> Path:
    """The path of a shipped file, in a source tree and in an installed package alike.

    Args:
        name: relative to the repository, such as `config/depth.yaml`.

    Raises:
        SsmdeError: it is in none of the places an installation puts it.
    """
    package = Path(__file__).resolve().parent
    for folder in package.parents:
        for place in (folder / name, folder / "share" / "ssmde_ros" / name):
            if place.is_file():
                return place
    raise SsmdeError(f"{name} is not installed beside {package}; is the package installed whole?")


def dds_profile_variable() -> str:
    """The environment variable that names the profile to the Fast DDS of this ROS distribution."""
    # Fast DDS 3 (Kilted) renamed it, and warns about the old name.
    old = os.environ.get("ROS_DISTRO") in ("humble", "iron", "jazzy")
    return f"{'FASTRTPS' if old else 'FASTDDS'}_DEFAULT_PROFILES_FILE"


def default_weights() -> Path:
    """The shipped student. Raises SsmdeError when it is not there."""
    return find_resource(DEFAULT_WEIGHTS)


def pose_weights() -> Path:
    """The shipped pose network. Raises SsmdeError when it is not there."""
    return find_resource(POSE_WEIGHTS)
