"""What is in a weight file, read and checked without torch, which takes longer to import than the live path to start."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open

from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks.config import DepthNetConfig

FORMAT = "ssmde-depth-net-1"

Arrays = dict[str, NDArray[Any]]

_TYPES = {"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U8", "BOOL"}  # of safetensors, that NumPy has, too


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
            names = list(file.keys())
            strange = {name: kind for name in names if (kind := file.get_slice(name).get_dtype()) not in _TYPES}
            arrays = {} if strange else {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"weights file {path} cannot be read ({error}); is it a whole .safetensors file?") from error
    if metadata.get("format") != form:
        raise WeightsError(f"weights file {path} is not a {what} of this package (no {form!r} metadata)")
    for name, kind in strange.items():
        raise WeightsError(f"weights file {path}: {name} is {kind}, the architecture needs F32")
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

    Of a network with other layers than were seen before, names and shapes are not checked: that takes the network.

    Raises:
        WeightsError: see `load_depth_net`.
    """
    info, arrays = read_depth_net(path)
    if (known := _fitting.get(info.config.layout)) is not None:
        check_layout(known, arrays, info.path)
    return info


class _Slot(NamedTuple):
    """The place of a tensor in a network."""

    shape: tuple[int, ...]
    dtype: str


_fitting: dict[tuple[object, ...], dict[str, _Slot]] = {}


def remember_fit(info: WeightsInfo, arrays: Arrays) -> None:
    """Note that a network takes these arrays: `check_depth_net` compares others with them."""
    _fitting.setdefault(info.config.layout, _layout(arrays))


def check_layout(expected: Mapping[str, Any], state: Mapping[str, Any], path: Path) -> None:
    """Raise WeightsError unless `state` has exactly the names, shapes and types of `expected`, arrays or tensors."""
    wanted, found = _layout(expected), _layout(state)
    if missing := sorted(wanted.keys() - found.keys()):
        raise WeightsError(f"weights file {path} lacks {len(missing)} tensors, first {missing[0]}")
    if extra := sorted(found.keys() - wanted.keys()):
        raise WeightsError(f"weights file {path} has {len(extra)} foreign tensors, first {extra[0]}")
    for name, slot in wanted.items():
        if found[name] != slot:
            raise WeightsError(
                f"weights file {path}: {name} is {list(found[name].shape)} {found[name].dtype}, "
                f"the architecture needs {list(slot.shape)} {slot.dtype}"
            )


def check_finite(arrays: Mapping[str, ArrayLike], path: Path) -> None:
    """Raise WeightsError where an array, or a tensor on the CPU, holds NaN or infinity."""
    bad = [name for name, values in arrays.items() if not np.isfinite(np.asarray(values)).all()]
    if bad:
        raise WeightsError(f"weights {path}: {len(bad)} tensors hold NaN or infinity, first {bad[0]}")


def _layout(state: Mapping[str, Any]) -> dict[str, _Slot]:
    return {name: _Slot(tuple(v.shape), str(v.dtype).removeprefix("torch.")) for name, v in state.items()}


def _digest(arrays: Arrays, config: DepthNetConfig) -> str:
    """Of what the network computes, not of the file: safetensors orders its metadata at random."""
    sha = hashlib.sha256(json.dumps(config.recorded(), sort_keys=True).encode())
    for name in sorted(arrays):
        sha.update(name.encode())
        sha.update(arrays[name].tobytes())
    return sha.hexdigest()[:12]
