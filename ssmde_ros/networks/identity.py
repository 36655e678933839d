"""What is in a weight file, read and checked without torch, which takes longer to import than the live path to start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open

from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks.config import DepthNetConfig

FORMAT = "ssmde-depth-net-1"

Arrays = dict[str, NDArray[Any]]
_Layout = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


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


def read_arrays(path: Path, form: str, what: str, key: str) -> tuple[Path, dict[str, str], Arrays]:
    """Path (`~` expanded), metadata and arrays of a weights file of this package.

    Args:
        form: what its metadata must name as `format`.
        what: the network in words, and `key`, the setting that names the file, for messages.

    Raises:
        WeightsError: missing or unreadable file, a foreign format, or values that are not finite.
    """
    path = existing_file(path, "weights file", f"set `{key}` to a .safetensors file")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
    # Types that NumPy does not have are none of ours.
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"weights file {path} cannot be read ({error}); is it a whole .safetensors file?") from error
    if metadata.get("format") != form:
        raise WeightsError(f"weights file {path} is not a {what} of this package (no {form!r} metadata)")
    check_finite(arrays, path)
    return path, metadata, arrays


def read_depth_net(path: Path) -> tuple[WeightsInfo, Arrays]:
    """Identity and arrays of a depth network; whether its own network has a place for them is not looked at.

    Raises:
        WeightsError: missing or unreadable file, foreign format, or values that are not finite.
    """
    path, metadata, arrays = read_arrays(path, FORMAT, "depth network", "weights")
    try:
        values = json.loads(metadata["config"])
        config = DepthNetConfig(**{**values, "widths": tuple(values["widths"])})
        provenance = json.loads(metadata.get("provenance", "{}"))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"weights file {path} has unusable metadata: {error}") from error
    return WeightsInfo(path, _digest(arrays, config), config, provenance), arrays


def check_depth_net(path: Path) -> WeightsInfo:
    """Identity of a network that `load_depth_net` would read, without the time it takes to build one.

    Raises:
        WeightsError: see `load_depth_net`.
    """
    info, arrays = read_depth_net(path)
    if _fitting.get(info.config.layout) != _layout(arrays):
        from ssmde_ros.networks.weights import check_fit  # imports torch, to compare with the network itself

        check_fit(info, arrays)
    return info


_fitting: dict[tuple[object, ...], _Layout] = {}


def remember_fit(info: WeightsInfo, arrays: Arrays) -> None:
    """Note that a network takes these arrays, so that `check_depth_net` need not build it to know of the next ones."""
    _fitting[info.config.layout] = _layout(arrays)


def check_finite(arrays: Mapping[str, ArrayLike], path: Path) -> None:
    """Raise WeightsError where an array, or a tensor on the CPU, holds NaN or infinity."""
    bad = [name for name, values in arrays.items() if not np.isfinite(np.asarray(values)).all()]
    if bad:
        raise WeightsError(f"weights {path}: {len(bad)} tensors hold NaN or infinity, first {bad[0]}")


def _layout(arrays: Arrays) -> _Layout:
    return {name: (values.shape, values.dtype) for name, values in arrays.items()}


def _digest(arrays: Arrays, config: DepthNetConfig) -> str:
    """Of what the network computes, not of the file: safetensors orders its metadata at random."""
    sha = hashlib.sha256(json.dumps(config.recorded(), sort_keys=True).encode())
    for name in sorted(arrays):
        sha.update(name.encode())
        sha.update(arrays[name].tobytes())
    return sha.hexdigest()[:12]
