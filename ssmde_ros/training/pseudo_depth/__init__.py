"""Pseudo-depth: what a foreign network thinks of a frame, up to scale and shift (P in docs/method.md)."""

from ssmde_ros.training.pseudo_depth.cache import CachedPseudoDepth
from ssmde_ros.training.pseudo_depth.factory import PseudoDepthConfig, make_provider
from ssmde_ros.training.pseudo_depth.folder import FolderPseudoDepth
from ssmde_ros.training.pseudo_depth.leres import LeresPseudoDepth
from ssmde_ros.training.pseudo_depth.maps import ask_for_pseudo_depth, pseudo_maps
from ssmde_ros.training.pseudo_depth.provider import Convention, PseudoDepthProvider
from ssmde_ros.training.pseudo_depth.synthetic import Degradation, SyntheticPseudoDepth
from ssmde_ros.training.pseudo_depth.transformers_dir import TransformersPseudoDepth

__all__ = [
    "CachedPseudoDepth",
    "Convention",
    "Degradation",
    "FolderPseudoDepth",
    "LeresPseudoDepth",
    "PseudoDepthConfig",
    "PseudoDepthProvider",
    "SyntheticPseudoDepth",
    "TransformersPseudoDepth",
    "ask_for_pseudo_depth",
    "make_provider",
    "pseudo_maps",
]
