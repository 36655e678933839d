"""Checkpoints that are whole or not there: a full disk or a kill leaves the one before."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from ssmde_ros.files import whole_file


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's own writes to the system's temporary folder first; where that is another disk, its move is a copy."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to the file `path`.

        Raises:
            OSError: the disk refuses; what was there before stays.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with whole_file(target) as file:
                torch.save(checkpoint, file)
        # torch wraps the error of a full disk in one of its own.
        except RuntimeError as error:
            free = shutil.disk_usage(target.parent).free / 1e6
            raise OSError(
                f"checkpoint {target} cannot be written, {free:.0f} MB are free there: {' '.join(str(error).split())}"
            ) from error
