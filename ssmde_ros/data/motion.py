"""Ego-motion and sparse depth of the frame pairs that training will see, once per clip."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ssmde_ros.data.clip import Clip
from ssmde_ros.data.fusion import DepthFusion
from ssmde_ros.data.matching import DenseFlow, Features, detect, match
from ssmde_ros.data.pair_motion import POINTS, PairMotion
from ssmde_ros.data.reconstruction import Reconstruction, reconstruct
from ssmde_ros.data.stereo import stereo
from ssmde_ros.data.tracks import follow_features, sightings
from ssmde_ros.geometry import TwoView, TwoViewConfig, structure, two_view

_REPROJECTION = 1.5  # pixels that a triangulated point may be off
_TRACK_ERROR = 1.5 / 500  # the same for a point of a track, units of the focal length
_FEWEST_FRAMES = 8  # fewer are not worth joining
_FEWEST_POINTS = 24  # that must support a direction of travel
_BESIDE = 0.02  # normalised coordinates; a flow point this close to a feature should have its depth
_AGREEING, _DISAGREEMENT = 0.7, 0.2  # of these neighbours, this share must agree to this much in log depth

Floats = NDArray[np.float64]


def pair_motions(clip: Clip, pairs: Iterable[tuple[int, int]], seed: int = 0) -> dict[tuple[int, int], PairMotion]:
    """Motion and triangulated points of each pair of frames that determines them, in both directions.

    Poses come from all frames together where their tracks hold them (see `reconstruct`), and pair by pair elsewhere:
    odometry refined on the matches, or the matches alone, up to scale.

    Returns:
        By (target, source); a pair that tells nothing (no matches, no parallax, no odometry) is missing.
    """
    ordered = sorted({(min(pair), max(pair)) for pair in pairs})
    features, flow = detect(clip), DenseFlow(clip)
    tracks = follow_features(features, clip.name) if ordered and len(clip) >= _FEWEST_FRAMES else []
    world = reconstruct(clip, tracks)
    seen = sightings(tracks, len(clip))
    fusion = DepthFusion(flow.camera)
    found: dict[tuple[int, int], tuple[Floats, list[TwoView], float]] = {}
    for a, b in tqdm(ordered, desc=f"depth of {clip.name}", unit="pair", disable=None):
        metric = clip.motion(a, b) is not None
        joined = _from_world(world, seen, a, b, metric)
        if joined is not None:
            found[a, b] = joined
            motion, (sparse,), unit = joined
            for frame, other, view in ((a, b, sparse), (b, a, sparse.swapped())):
                dense = _dense(flow, frame, other, view)
                if dense is not None:
                    fusion.add(frame, dense, unit)
            continue
        alone = _from_pair(clip, features, a, b)
        if alone is not None:
            motion, views = alone
            dense = _dense(flow, a, b, views[0]) if views else None
            found[a, b] = motion, [*views, dense] if dense is not None else views, 0.0
    return _pairs(clip, found, fusion, seed)


def _pairs(
    clip: Clip,
    found: dict[tuple[int, int], tuple[Floats, list[TwoView], float]],
    fusion: DepthFusion,
    seed: int,
) -> dict[tuple[int, int], PairMotion]:
    """Both directions of each pair."""
    known = {}
    for (a, b), (motion, views, unit) in found.items():
        metric = clip.motion(a, b) is not None
        back = [view.swapped() for view in views]
        for target, source, there, seen in ((a, b, motion, views), (b, a, np.linalg.inv(motion), back)):
            tables = [np.column_stack([view.points_a, view.depth_a]) for view in seen]
            if unit:
                points, depth = fusion.fused(target)
                tables.append(np.column_stack([points, depth / unit]))
            # The same draw both ways, so that there and back choose the same points where they have the same.
            kept = _chosen(tables, np.random.default_rng([seed, a, b]))
            known[target, source] = _pair(clip, np.asarray(there, np.float64), metric, kept[:, 0:2], kept[:, 2])
    return known


def _from_world(
    world: Reconstruction | None, seen: list[dict[int, Floats]], a: int, b: int, metric: bool
) -> tuple[Floats, list[TwoView], float] | None:
    """Motion `T_{a->b}` from poses of the whole clip, the points of the tracks that both frames see, and its unit."""
    motion = world.motion(a, b) if world is not None else None
    if world is None or motion is None or world.metric != metric:
        return None
    unit = 1.0 if metric else float(np.linalg.norm(motion[:3, 3]))
    if unit < 1e-9:
        return None
    motion[:3, 3] /= unit
    shared = [n for n in seen[a] if n in seen[b]]
    points = [np.array([view[n] for n in shared]).reshape(-1, 2) for view in (seen[a], seen[b])]
    view = structure(points[0], points[1], motion, TwoViewConfig(reprojection=_TRACK_ERROR))
    if not metric and len(view.depth_a) < _FEWEST_POINTS:
        return None  # a direction of travel that hardly any parallax supports
    return motion, [view], unit


def _from_pair(clip: Clip, features: list[Features], a: int, b: int) -> tuple[Floats, list[TwoView]] | None:
    """The same from the two frames alone."""
    focal = clip.tracking_camera.fx if clip.tracking_camera else clip.camera.fx
    given = clip.motion(a, b)
    found = two_view(*match(features[a], features[b]), given, TwoViewConfig(reprojection=_REPROJECTION / focal))
    if found is not None:
        return found.motion, [found]
    return (np.asarray(given), []) if given is not None else None


def _dense(flow: DenseFlow, a: int, b: int, sparse: TwoView) -> TwoView | None:
    """Depth all over the image, where it agrees with that of the features: by stereo, or by flow on the way ahead."""
    if not len(sparse.depth_a):
        return None
    nearest = 0.5 * float(np.quantile(sparse.depth_a, 0.02))
    found = stereo(flow.images[a], flow.images[b], flow.camera, sparse.motion, nearest)
    if found is None:
        config = TwoViewConfig(reprojection=_REPROJECTION / flow.camera.fx)
        found = structure(*flow.match(a, b), sparse.motion, config)
    return found if _agree(sparse, found) else None


def _agree(features: TwoView, flow: TwoView) -> bool:
    """Whether dense depth is that of the features beside it.

    It is a guess where there is no texture. In a street, where near things move by tens of pixels and most of the
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


def _chosen(tables: list[Floats], rng: np.random.Generator) -> Floats:
    """At most `POINTS` rows `[K, 3]` of place and depth, features (the first table) before dense depth."""
    rows = [np.zeros((0, 3))]
    for table in tables:
        rows.append(rng.permutation(table)[: POINTS if len(rows) > 1 else POINTS // 4])
    return np.concatenate(rows)[:POINTS]


def _pair(clip: Clip, motion: Floats, metric: bool, points: Floats, depth: Floats) -> PairMotion:
    camera = clip.camera
    pixels, inverse = torch.zeros(POINTS, 2), torch.zeros(POINTS)
    uv = points * [camera.fx, camera.fy] + [camera.cx, camera.cy]
    pixels[: len(depth)] = torch.from_numpy(uv).float()
    inverse[: len(depth)] = torch.from_numpy(1 / depth).float()
    return PairMotion(torch.from_numpy(motion).float(), metric, pixels, inverse)
