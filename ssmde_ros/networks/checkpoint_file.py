"""Files that `torch.save` wrote elsewhere, read without running anything that is in them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from ssmde_ros.networks.identity import WeightsError, existing_file

# What Lightning wraps hyper-parameters in, by all its names; here it is read as a plain dictionary.
_WRAPPERS = [
    f"{package}.AttributeDict"
    for package in (
        "pytorch_lightning.utilities.parsing", "lightning.pytorch.utilities.parsing", "lightning.fabric.utilities.data",
        "lightning_fabric.utilities.data",
    )
]  # fmt: skip


def read_checkpoint(path: Path, what: str, hint: str) -> Any:
    """The content of a checkpoint: tensors, numbers and names, on the CPU.

    Args:
        what: the file in words, for messages.
        hint: which file it should be.

    Raises:
        WeightsError: missing or unreadable file, or one that holds code.
    """
    path = existing_file(path, what, f"download {hint} and give its path")
    known: list[Any] = [argparse.Namespace, *((dict, name) for name in _WRAPPERS)]
    try:
        with torch.serialization.safe_globals(known):
            return torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # on strange bytes torch.load raises whatever its unpickler or zip reader does
        raise WeightsError(f"{what} {path} cannot be read ({type(error).__name__}); is it the whole {hint}?") from error
