"""Pseudo-depth computed once per frame and kept on disk."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssmde_ros.errors import SsmdeError
from ssmde_ros.training.pseudo_depth.provider import Convention, PseudoDepthProvider, as_rgb, checked

log = logging.getLogger(__name__)


class CachedPseudoDepth:
    """A provider that asks another one only for what it has not seen; values come back bit for bit.

    The key is the provider's identity and the pixels, not the name: a frame that two recordings share is computed
    once, and a changed working size or other weights never meet stale maps. Only for providers that look at nothing
    but the pixels.

    Args:
        provider: computes what is missing.
        folder: one `.npz` file per frame; its checksum tells damage. Made when missing.

    Raises:
        SsmdeError: the folder cannot be made.
    """

    def __init__(self, provider: PseudoDepthProvider, folder: Path) -> None:
        self._provider = provider
        self.convention: Convention = provider.convention
        self.identity = provider.identity
        try:
            self._folder = folder.expanduser()
            self._folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError) as error:
            raise SsmdeError(f"pseudo-depth cache {folder} cannot be made ({error})") from error

    def predict(self, image: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
        """See `PseudoDepthProvider.predict`."""
        image = as_rgb(image)
        path = self._path(image)
        known = self._read(path, image, name)
        if known is not None:
            return known
        depth = checked(self._provider.predict(image, name), image, name, self.identity).astype(np.float32, copy=False)
        self._write(path, depth)
        return depth

    def _path(self, image: NDArray[np.uint8]) -> Path:
        height, width = image.shape[:2]
        sha = hashlib.sha256(f"{self.identity}\0{width}x{height}\0".encode())
        sha.update(image.data)
        return self._folder / f"{sha.hexdigest()}.npz"

    def _read(self, path: Path, image: NDArray[np.uint8], name: str) -> NDArray[np.float32] | None:
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as file:
                depth = file["depth"]
            if depth.dtype != np.float32:
                raise ValueError(f"it holds {depth.dtype}")
            return checked(depth, image, name, self.identity)
        except Exception as error:  # damaged archives raise whatever zip's and numpy's readers meet
            reason = " ".join(str(error).split()) or type(error).__name__
            log.warning("pseudo-depth cache file %s is damaged (%s): computing it again", path, reason)
            return None

    def _write(self, path: Path, depth: NDArray[np.float32]) -> None:
        """Under a temporary name first: two runs may share the folder, and either may be killed."""
        partial = path.with_name(f".{path.stem}.{os.getpid()}.partial")
        try:
            try:
                with partial.open("wb") as file:
                    np.savez(file, depth=depth)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise SsmdeError(f"pseudo-depth cache {self._folder} cannot be written ({error})") from error
