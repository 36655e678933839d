"""Weight files: safetensors plus enough metadata to rebuild, check and trust the network inside."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ssmde_ros import __version__
from ssmde_ros.files import whole_file
from ssmde_ros.networks.config import DepthNetConfig
from ssmde_ros.networks.depth_net import DepthNet
from ssmde_ros.networks.identity import (
    FORMAT,
    Arrays,
    WeightsError,
    WeightsInfo,
    check_finite,
    check_layout,
    read_arrays,
    read_depth_net,
    remember_fit,
)


def save_depth_net(net: DepthNet, path: Path, provenance: dict[str, Any]) -> None:
    """Write a network atomically: a temporary name first, then renamed.

    Raises:
        WeightsError: a tensor holds NaN or infinity; nothing is written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    check_finite(state, path)
    config = json.dumps(net.config.recorded())
    write_tensors(path, state, {"format": FORMAT, "config": config, "provenance": json.dumps(provenance)})


def load_depth_net(path: Path) -> tuple[DepthNet, WeightsInfo]:
    """Read a network, refusing anything that is not exactly one.

    Returns:
        The network in eval mode on the CPU, and its identity.

    Raises:
        WeightsError: missing or unreadable file, foreign format, other names, shapes or types than the
            architecture asks for, or values that are not finite.
    """
    info, arrays = read_depth_net(path)
    return build_depth_net(info, arrays), info


def build_depth_net(info: WeightsInfo, arrays: Arrays) -> DepthNet:
    """The network of `read_depth_net`, in eval mode on the CPU.

    Raises:
        WeightsError: other names, shapes or types than the architecture asks for.
    """
    check_fit(info, arrays)
    net = DepthNet(info.config)
    net.load_state_dict(as_tensors(arrays))
    return net.eval()


def check_fit(info: WeightsInfo, arrays: Arrays) -> None:
    """Raise WeightsError unless the network that a file describes takes exactly its arrays."""
    try:
        expected = _expected(info.config)
    except (RuntimeError, TypeError) as error:  # a size that no memory holds, a list for a number
        raise WeightsError(f"weights file {info.path} describes a network that cannot be built: {error}") from error
    check_layout(expected, arrays, info.path)
    remember_fit(info, arrays)


def as_tensors(arrays: Arrays) -> dict[str, Tensor]:
    """Views of arrays."""
    return {name: torch.from_numpy(values) for name, values in arrays.items()}


@lru_cache(maxsize=8)
def _expected(config: DepthNetConfig) -> dict[str, Tensor]:
    """Names, shapes and types of a network's tensors; they have no memory."""
    with torch.device("meta"):
        return DepthNet(config).state_dict()


def read_tensors(path: Path, form: str, what: str, key: str) -> tuple[Path, dict[str, str], dict[str, Tensor]]:
    """`read_arrays`, as tensors."""
    path, metadata, arrays = read_arrays(path, form, what, key)
    return path, metadata, as_tensors(arrays)


def write_tensors(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file whole or not at all, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(save(state, metadata | {"ssmde_ros": __version__}))
