"""Ego-motion and sparse depth of the frame pairs that training will see, once per clip."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ssmde_ros.data.clip import Clip
from ssmde_ros.data.matching import DenseFlow, detect, match
from ssmde_ros.geometry import TwoView, TwoViewConfig, structure, two_view

POINTS = 1024  # kept per pair, so that pairs stack
_REPROJECTION = 1.5  # pixels that a triangulated point may be off
_BESIDE = 0.02  # normalised coordinates; a flow point this close to a feature should have its depth
_AGREEING, _DISAGREEMENT = 0.7, 0.2  # of these neighbours, this share must agree to this much in log depth

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairMotion:
    """What is known about one pair (target, source) of frames.

    Attributes:
        motion: `T_{t->s}` `[4, 4]`; its translation is metric, or of unit length when `metric` is False.
        metric: whether it came from odometry.
        pixels: `[POINTS, 2]` (u, v) in the target at working size, padded with zeros.
        inverse_depth: `[POINTS]` in units of the translation, 0 where padded.
    """

    motion: Tensor
    metric: bool
    pixels: Tensor
    inverse_depth: Tensor


def pair_motions(clip: Clip, pairs: Iterable[tuple[int, int]], seed: int = 0) -> dict[tuple[int, int], PairMotion]:
    """Motion and triangulated points of each pair of frames that determines them, in both directions.

    Where odometry knows the motion it is refined on the matches; elsewhere it is estimated from them, up to scale.

    Returns:
        By (target, source); a pair that tells nothing (no matches, no parallax, no odometry) is missing.
    """
    ordered = sorted({(min(pair), max(pair)) for pair in pairs})
    features, flow = detect(clip), DenseFlow(clip)
    focal = clip.tracking_camera.fx if clip.tracking_camera else clip.camera.fx
    config = TwoViewConfig(reprojection=_REPROJECTION / focal)
    dense = TwoViewConfig(reprojection=_REPROJECTION / flow.camera.fx)
    rng = np.random.default_rng(seed)
    known: dict[tuple[int, int], PairMotion] = {}
    for a, b in tqdm(ordered, desc=f"motion of {clip.name}", unit="pair"):
        given = clip.motion(a, b)
        found = two_view(*match(features[a], features[b]), given, config)
        if found is None and given is None:
            continue
        motion = found.motion if found is not None else np.asarray(given)
        views = [found] if found is not None else []
        if found is not None:
            carried = structure(*flow.match(a, b), motion, dense)
            views += [carried] if _agree(found, carried) else []
        kept = _chosen(views, rng)
        back = np.asarray(np.linalg.inv(motion), np.float64)
        known[a, b] = _pair(clip, motion, given is not None, kept[:, 0:2], kept[:, 4])
        known[b, a] = _pair(clip, back, given is not None, kept[:, 2:4], kept[:, 5])
    return known


def _agree(features: TwoView, flow: TwoView) -> bool:
    """Whether the depth from flow is that of the features beside it.

    Flow is a guess where there is no texture. In a street, where near things move by tens of pixels and most of the
    picture is road and sky, the guess is bad; in a room it is good. Features tell which it is.
    """
    if not len(features.depth_a) or not len(flow.depth_a):
        return False
    far = np.linalg.norm(features.points_a[:, None] - flow.points_a[None], axis=2)
    beside = far.argmin(1)
    near = far[np.arange(len(beside)), beside] < _BESIDE
    if near.sum() < 12:
        return False
    ratio = np.abs(np.log(flow.depth_a[beside[near]] / features.depth_a[near]))
    return float(np.quantile(ratio, _AGREEING)) < _DISAGREEMENT


def _chosen(views: list[TwoView], rng: np.random.Generator) -> Floats:
    """At most `POINTS` rows `[K, 6]`: place in either view and depth in either, features before flow."""
    rows = [np.zeros((0, 6))]
    for view in views:
        table = np.column_stack([view.points_a, view.points_b, view.depth_a, view.depth_b])
        rows.append(rng.permutation(table)[: POINTS if len(rows) > 1 else POINTS // 4])
    return np.concatenate(rows)[:POINTS]


def _pair(clip: Clip, motion: Floats, metric: bool, points: Floats, depth: Floats) -> PairMotion:
    camera = clip.camera
    pixels, inverse = torch.zeros(POINTS, 2), torch.zeros(POINTS)
    uv = points * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    pixels[: len(depth)] = torch.from_numpy(uv).float()
    inverse[: len(depth)] = torch.from_numpy(1 / depth).float()
    return PairMotion(torch.from_numpy(motion).float(), metric, pixels, inverse)
