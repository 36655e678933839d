"""From settings to a pseudo-depth provider."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ssmde_ros.training.pseudo_depth.cache import CachedPseudoDepth
from ssmde_ros.training.pseudo_depth.folder import FolderPseudoDepth
from ssmde_ros.training.pseudo_depth.leres import LeresPseudoDepth
from ssmde_ros.training.pseudo_depth.provider import Convention, PseudoDepthProvider
from ssmde_ros.training.pseudo_depth.transformers_dir import TransformersPseudoDepth

Kind = Literal["none", "leres", "transformers", "folder"]


@dataclass(frozen=True)
class PseudoDepthConfig:
    """Where pseudo-depth comes from.

    Attributes:
        kind: "none" trains without; the rest may then stay set, so that one word switches the prior off.
        path: LeReS checkpoint, transformers model folder, or folder of maps.
        convention: what the maps are affine in; "auto" for LeReS only, which always gives depth.
        cache: folder to keep computed maps in; None computes them anew in every run.

    Raises:
        ValueError: a combination that cannot work.
    """

    kind: Kind = "none"
    path: Path | None = None
    convention: Literal["auto", "depth", "inverse_depth"] = "auto"
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"pseudo.kind must be one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        if self.convention not in ("auto", *get_args(Convention)):
            raise ValueError(f"pseudo.convention must be auto, depth or inverse_depth, got {self.convention!r}")
        if self.kind == "none":
            return
        if self.path is None:
            raise ValueError(f"pseudo.kind is {self.kind}: set pseudo.path to its checkpoint or folder")
        if self.kind == "leres" and self.convention == "inverse_depth":
            raise ValueError("pseudo.convention: LeReS gives depth; set it to depth or leave it out")
        if self.kind in ("transformers", "folder") and self.convention == "auto":
            raise ValueError(
                f"pseudo.kind is {self.kind}: set pseudo.convention to depth or inverse_depth "
                "(relative Depth Anything and DPT give inverse_depth)"
            )
        if self.kind == "folder" and self.cache is not None:
            raise ValueError("pseudo.cache: a folder of maps needs no cache; leave it out")


def make_provider(config: PseudoDepthConfig, device: str = "cpu") -> PseudoDepthProvider | None:
    """The provider the settings ask for; None for "none".

    Args:
        device: torch device for the networks.

    Raises:
        SsmdeError: its files or its library are not there, or cannot be used.
    """
    if config.kind == "none" or config.path is None:
        return None
    convention: Convention = "inverse_depth" if config.convention == "inverse_depth" else "depth"
    if config.kind == "folder":
        return FolderPseudoDepth(config.path, convention)
    provider: PseudoDepthProvider
    if config.kind == "leres":
        provider = LeresPseudoDepth(config.path, device)
    else:
        provider = TransformersPseudoDepth(config.path, convention, device)
    return CachedPseudoDepth(provider, config.cache) if config.cache is not None else provider
