"""Pseudo-depth from a depth model in Hugging Face `transformers` form, in a folder on this machine.

The library is optional (`pip install transformers`); nothing is ever downloaded, no code from the folder is run.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ssmde_ros.errors import SsmdeError
from ssmde_ros.training.pseudo_depth.provider import Convention, as_rgb, checked, digest_of

# What Depth Anything's configuration says of its own output.
_STATED: dict[str, Convention] = {"relative": "inverse_depth", "metric": "depth"}


class TransformersPseudoDepth:
    """Maps of any `AutoModelForDepthEstimation`: Depth Anything, DPT, ZoeDepth and their like.

    Args:
        folder: with config.json, preprocessor_config.json and the weights.
        convention: what the model's output is affine in; relative Depth Anything and DPT give inverse depth.
        device: torch device to run on.

    Raises:
        SsmdeError: `transformers` is not installed, the folder holds no whole depth model, or the model's own
            configuration contradicts the convention.
    """

    def __init__(self, folder: Path, convention: Convention, device: str = "cpu") -> None:
        try:
            library: Any = importlib.import_module("transformers")
        except ImportError as error:
            raise SsmdeError(
                "pseudo-depth from a transformers model needs that library: pip install transformers"
            ) from error
        folder = folder.expanduser()
        if not folder.is_dir():
            raise SsmdeError(f"pseudo-depth model folder {folder} does not exist; give a local transformers model")
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._processor = library.AutoImageProcessor.from_pretrained(folder, **local)
            model, report = library.AutoModelForDepthEstimation.from_pretrained(
                folder, output_loading_info=True, **local
            )
        except Exception as error:  # the library raises whatever it meets in a folder that is not a model
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise SsmdeError(f"{folder} holds no depth model that transformers can load ({reason})") from error
        # The library only warns of these, and fills the gaps with random numbers.
        if gaps := sorted(str(key) for kind in ("missing_keys", "mismatched_keys") for key in report.get(kind) or ()):
            raise SsmdeError(f"{folder} holds no whole depth model: {len(gaps)} tensors are not there, first {gaps[0]}")
        stated = _STATED.get(getattr(model.config, "depth_estimation_type", ""), convention)
        if stated != convention:
            raise SsmdeError(f"{folder}: the model's config.json says it gives {stated}; set convention: {stated}")
        self._model = model.float().eval().to(device)
        self._device = device
        self.convention: Convention = convention
        files = [path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".bin")]
        self.identity = f"transformers {digest_of(files)} {convention}"

    @torch.inference_mode()
    def predict(self, image: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
        """See `PseudoDepthProvider.predict`."""
        image = as_rgb(image)
        # Padding would have to be cut off again, each model's in its own way.
        plain = {"do_pad": False} if getattr(self._processor, "do_pad", False) else {}
        inputs = self._processor(images=image, return_tensors="pt", **plain).to(self._device)
        depth = self._model(**inputs).predicted_depth.float()
        # Bilinear: the library's own bicubic overshoots at the edges of objects.
        full = F.interpolate(depth.reshape(1, 1, *depth.shape[-2:]), image.shape[:2], mode="bilinear")
        return checked(full[0, 0].cpu().numpy(), image, name, self.identity)
