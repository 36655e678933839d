"""Shared fixtures: weight files, recordings, and a DDS domain of our own."""

import os
import random
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"

# Before anything imports rclpy: a domain nobody else uses, this machine only, shared memory for images.
os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().randint(1, 100))
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(ROOT / "config" / "fastdds.xml"))

# Compiled engines are kept from test to test, in the clone and not in the user's own cache.
os.environ["XDG_CACHE_HOME"] = str(ROOT / ".pytest_cache" / "xdg")

# `make test` draws the same examples every time; `make test-fast` new ones.
settings.register_profile("same", derandomize=True)


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.is_relative_to(ROOT / "test" / "nodes") or item.path.name == "test_demo.py":
            item.add_marker("dds")


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A small network with random weights: everything but the accuracy is as shipped."""
    import torch

    from ssmde_ros.networks import DepthNet, DepthNetConfig, save_depth_net

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_depth_net(DepthNet(DepthNetConfig(input_width=96, input_height=64)), path, {"data": "none"})
    return path


@pytest.fixture(scope="session")
def recording():
    """Path of a shared recording by name; skips, saying so, where the recordings are not."""

    def find(name: str) -> Path:
        path = SHARED / name
        if not path.exists():
            pytest.skip(f"the recordings are not on this machine ({path})")
        return path

    return find
