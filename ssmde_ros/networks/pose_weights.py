"""The weights file of a pose network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ssmde_ros.networks.identity import check_finite, check_layout
from ssmde_ros.networks.pose_net import PoseNet
from ssmde_ros.networks.weights import read_tensors, write_tensors

FORMAT = "ssmde-pose-net-1"


def save_pose_net(net: PoseNet, path: Path, provenance: dict[str, Any]) -> None:
    """Write a network atomically.

    Args:
        provenance: how it was trained, free form.

    Raises:
        WeightsError: a tensor holds NaN or infinity; nothing is written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    check_finite(state, path)
    write_tensors(path, state, {"format": FORMAT, "provenance": json.dumps(provenance)})


def load_pose_net(path: Path) -> PoseNet:
    """Read a network, in eval mode on the CPU.

    Raises:
        WeightsError: missing or unreadable file, foreign format, other names, shapes or types than the architecture
            asks for, or values that are not finite.
    """
    path, _, state = read_tensors(path, FORMAT, "pose network", "pose.init")
    net = PoseNet()
    check_layout(net.state_dict(), state, path)
    net.load_state_dict(state)
    return net.eval()
