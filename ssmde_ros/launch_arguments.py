"""What the arguments of `depth.launch.py` mean."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ssmde_ros.errors import SsmdeError


def cameras_of(given: Mapping[str, str]) -> list[str]:
    """The namespaces in `cameras`; one without a name where none are given.

    Raises:
        SsmdeError: two cameras would share a name or a topic.
    """
    cameras = [name.strip("/ ") for name in given["cameras"].split(",") if name.strip("/ ")]
    if len(set(cameras)) < len(cameras):
        raise SsmdeError(f"cameras:={given['cameras']} names one twice")
    for topic in ("image", "camera_info"):
        if cameras and given[topic].startswith("/"):
            raise SsmdeError(
                f"{topic}:={given[topic]} would be the same topic for all cameras: leave out the first slash"
            )
    return cameras or [""]


def overrides_of(given: Mapping[str, str], cameras: int) -> dict[str, str | bool | int]:
    """Parameters of each depth node, only those that were given: the rest stays with the parameter file.

    Raises:
        SsmdeError: `threads` is no number.
    """
    names = ("weights", "generations", "engine", "device", "precision", "image_transport")
    overrides: dict[str, str | bool | int] = {name: given[name] for name in names if given[name]}
    overrides["use_sim_time"] = given["use_sim_time"].lower() in ("true", "1")
    if given["threads"]:
        if not given["threads"].isdecimal():
            raise SsmdeError(f"threads:={given['threads']} is no number of CPU threads")
        overrides["threads"] = int(given["threads"])
    elif cameras > 1:
        overrides["threads"] = fair_threads(cameras)
    return overrides


def fair_threads(engines: int) -> int:
    """CPU threads for each of several engines that run at once: left alone each takes all cores, and waits for the others."""
    return max(1, (os.cpu_count() or 1) // engines)
