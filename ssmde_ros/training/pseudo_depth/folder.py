"""Pseudo-depth somebody else computed: a folder with one map per frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.errors import SsmdeError
from ssmde_ros.training.pseudo_depth.provider import Convention, as_rgb, checked, resized


class FolderPseudoDepth:
    """Maps `NAME.npy`, `NAME.npz` (entry `depth`) or `NAME.png` (16 bit, grey), looked for in this order.

    Values are taken as they are, zeros included; maps of another size are resized bilinearly.

    Args:
        folder: where the maps are.
        convention: what the maps are affine in.

    Raises:
        SsmdeError: no such folder.
    """

    def __init__(self, folder: Path, convention: Convention) -> None:
        self._folder = folder.expanduser().resolve()
        if not self._folder.is_dir():
            raise SsmdeError(f"pseudo-depth folder {self._folder} does not exist; give the folder with the maps")
        self.convention: Convention = convention
        self.identity = f"folder {self._folder} {convention}"

    def predict(self, image: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
        """See `PseudoDepthProvider.predict`."""
        image = as_rgb(image)
        path = self._find(name)
        try:
            values = np.asarray(_read(path))
        except Exception as error:  # damaged files raise whatever numpy's, zip's or OpenCV's reader meets
            reason = " ".join(str(error).split()) or type(error).__name__
            raise SsmdeError(f"pseudo-depth of frame {name!r}: {path} cannot be read ({reason})") from error
        if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "fiu":
            raise SsmdeError(f"pseudo-depth of frame {name!r}: {path} holds {values.shape} {values.dtype}, need [H, W]")
        with np.errstate(over="ignore"):  # told below, in words
            values = values.astype(np.float32)
        if not np.isfinite(values).all():  # before resizing, which may step over single bad pixels
            raise SsmdeError(f"pseudo-depth of frame {name!r}: {path} holds NaN or infinity")
        return checked(resized(values, image), image, name, self.identity)

    def _find(self, name: str) -> Path:
        if name and Path(name).name == name:  # never outside the folder
            for ending in (".npy", ".npz", ".png"):
                if (path := self._folder / f"{name}{ending}").is_file():
                    return path
        raise SsmdeError(f"pseudo-depth folder {self._folder} has no {name}.npy, .npz or .png")


def _read(path: Path) -> NDArray:
    if path.suffix == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file["depth"])
    picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise ValueError("not a picture")
    if picture.dtype != np.uint16 or picture.ndim != 2:
        raise ValueError(f"a map must be 16 bit grey, this is {picture.dtype} {picture.shape}")
    return np.asarray(picture)
