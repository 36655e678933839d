"""Weight files: safetensors plus enough metadata to rebuild, check and trust the network inside."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ssmde_ros import __version__
from ssmde_ros.errors import SsmdeError
from ssmde_ros.files import whole_file
from ssmde_ros.networks.depth_net import DepthNet, DepthNetConfig

FORMAT = "ssmde-depth-net-1"


class WeightsError(SsmdeError):
    """A weight file that cannot be used; the message names the file and the reason."""


@dataclass(frozen=True)
class WeightsInfo:
    """Identity of a loaded weight file.

    Attributes:
        path: where it was read from.
        digest: 12 hex digits of a SHA-256 over tensors and configuration; the identity in logs and diagnostics.
        config: the network it holds.
        provenance: how it was trained (free form; see the model card).
    """

    path: Path
    digest: str
    config: DepthNetConfig
    provenance: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.path.name} ({self.digest})"


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
    info, state = _read_depth_net(path)
    net = DepthNet(info.config)
    net.load_state_dict(state)
    return net.eval(), info


def check_depth_net(path: Path) -> WeightsInfo:
    """Identity of a network that `load_depth_net` would read, without the time it takes to build one.

    Raises:
        WeightsError: see `load_depth_net`.
    """
    return _read_depth_net(path)[0]


def _read_depth_net(path: Path) -> tuple[WeightsInfo, dict[str, Tensor]]:
    path, metadata, state = read_tensors(path, FORMAT, "depth network", "weights")
    try:
        values = json.loads(metadata["config"])
        config = DepthNetConfig(**{**values, "widths": tuple(values["widths"])})
        provenance = json.loads(metadata.get("provenance", "{}"))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"weights file {path} has unusable metadata: {error}") from error
    try:
        expected = _layout(config)
    except (RuntimeError, TypeError) as error:  # a size that no memory holds, a list for a number
        raise WeightsError(f"weights file {path} describes a network that cannot be built: {error}") from error
    check_layout(expected, state, path)
    check_finite(state, path)
    return WeightsInfo(path, _digest(state, config), config, provenance), state


@lru_cache(maxsize=8)
def _layout(config: DepthNetConfig) -> dict[str, Tensor]:
    """Names, shapes and types of a network's tensors; they have no memory."""
    with torch.device("meta"):
        return DepthNet(config).state_dict()


def write_tensors(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a file whole or not at all, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(save(state, metadata | {"ssmde_ros": __version__}))


def existing_file(path: Path, what: str, advice: str) -> Path:
    """The path of a file that is there, `~` expanded.

    Args:
        what: the file in words, and `advice`, what to do where it is missing, for messages.

    Raises:
        WeightsError: it is missing or out of reach.
    """
    try:
        path = path.expanduser()
        missing = not path.is_file()
    except (OSError, RuntimeError) as error:  # an impossible name, a locked folder, nobody's home
        raise WeightsError(f"{what} {path} cannot be reached ({error})") from error
    if missing:
        raise WeightsError(f"{what} {path} does not exist; {advice}")
    return path


def read_tensors(path: Path, form: str, what: str, key: str) -> tuple[Path, dict[str, str], dict[str, Tensor]]:
    """Path (`~` expanded), metadata and tensors of a weights file of this package.

    Args:
        form: what its metadata must name as `format`.
        what: the network in words, and `key`, the setting that names the file, for messages.

    Raises:
        WeightsError: missing or unreadable file, or a foreign format.
    """
    path = existing_file(path, "weights file", f"set `{key}` to a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"weights file {path} cannot be read ({error}); is it a whole .safetensors file?") from error
    if metadata.get("format") != form:
        raise WeightsError(f"weights file {path} is not a {what} of this package (no {form!r} metadata)")
    return path, metadata, state


def _digest(state: dict[str, Tensor], config: DepthNetConfig) -> str:
    """Of what the network computes, not of the file: safetensors orders its metadata at random."""
    sha = hashlib.sha256(json.dumps(config.recorded(), sort_keys=True).encode())
    for name in sorted(state):
        sha.update(name.encode())
        sha.update(state[name].numpy().tobytes())
    return sha.hexdigest()[:12]


def check_layout(expected: dict[str, Tensor], state: dict[str, Tensor], path: Path) -> None:
    """Raise WeightsError unless `state` has exactly the names, shapes and types of `expected`."""
    if missing := sorted(expected.keys() - state.keys()):
        raise WeightsError(f"weights file {path} lacks {len(missing)} tensors, first {missing[0]}")
    if extra := sorted(state.keys() - expected.keys()):
        raise WeightsError(f"weights file {path} has {len(extra)} foreign tensors, first {extra[0]}")
    for name, tensor in expected.items():
        found = state[name]
        if found.shape != tensor.shape or found.dtype != tensor.dtype:
            raise WeightsError(
                f"weights file {path}: {name} is {list(found.shape)} {found.dtype}, "
                f"the architecture needs {list(tensor.shape)} {tensor.dtype}"
            )


def check_finite(state: dict[str, Tensor], path: Path) -> None:
    """Raise WeightsError where a tensor holds NaN or infinity."""
    bad = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise WeightsError(f"weights {path}: {len(bad)} tensors hold NaN or infinity, first {bad[0]}")
