"""The multi-view mask filter: which of the teacher's pixels may teach.

The idea that a label must be seen the same way from several views is that of Petrovai & Nedevschi 2022; gates on
photometry and features are ours to fix, and so is what happens to the pixels that move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssmde_ros.geometry import View, look, sample
from ssmde_ros.training.losses import depth_difference, median_ratio, photometric_error
from ssmde_ros.training.moving import NUDGE, REFERENCE_WIDTH, ResidualFlow, moving_regions, residual_flow

_FLOW_PIXELS = 0.5  # error of the flow that the gate allows for, in images up to REFERENCE_WIDTH; in proportion above


@dataclass(frozen=True)
class MaskFilterConfig:
    """Gates and thresholds.

    Attributes:
        geometry: largest `D_diff` (tau_g); 0 switches the gate off.
        percentile: largest reprojection error, as a percentile of the image (q), in (0, 100]; 100 switches it off.
        identity: whether the reprojection error must also beat that of not moving.
        features: smallest cosine similarity of stride-4 features (tau_f); -1 switches the gate off.
        flow: largest log depth error that optical flow finds, beside half a pixel; 0 switches the gate off.
        agreement: largest `|log D - log D'|` of a dynamic-reliable pixel under flip and color augmentation (tau_a).
        min_views: votes needed, at most the number of sources.
        min_area: connected regions of fewer pixels are dropped, in pixels of a 320x256 image; scaled to the size.
        moving_depth: log depth error that the teacher is granted before a flow means that something moves.
        moving_pixels: error that the flow is granted, pixels of a 320 pixels wide image.

    Raises:
        ValueError: a threshold out of range.
    """

    geometry: float = 0.08
    percentile: float = 85.0
    identity: bool = True
    features: float = 0.5
    flow: float = 0.15
    agreement: float = 0.1
    min_views: int = 1
    min_area: int = 40
    moving_depth: float = 0.1
    moving_pixels: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.geometry < 1 or not 0 < self.percentile <= 100 or not -1 <= self.features < 1:
            raise ValueError("mask gates out of range: geometry in [0, 1), percentile in (0, 100], features in [-1, 1)")
        if self.flow < 0 or self.moving_depth <= 0 or self.moving_pixels <= 0:
            raise ValueError("mask: flow must not be negative, moving_depth and moving_pixels must be positive")
        if self.agreement <= 0 or self.min_views < 1 or self.min_area < 0:
            raise ValueError("mask: agreement must be positive, min_views at least 1, min_area at least 0")


@dataclass(frozen=True)
class MaskResult:
    """What the filter says of each pixel of the target.

    Attributes:
        mask: M `[B, 1, H, W]` bool: the teacher may be followed.
        confidence: `[B, 1, H, W]` in [0, 1], share of the sources that voted, weighted by how well geometry fits.
        moving: `[B, 1, H, W]` bool: seen, but not where a static world would have it.
        dynamic: `[B, 1, H, W]` bool: the part of it on which the teacher agrees with itself (dynamic-reliable).
        gates: share of pixels that pass each gate, averaged over sources, for the log.
        passed: per gate `[B, S, H, W]` bool, for pictures.
    """

    mask: Tensor
    confidence: Tensor
    moving: Tensor
    dynamic: Tensor
    gates: dict[str, float]
    passed: dict[str, Tensor]


@dataclass(frozen=True)
class TeacherViews:
    """What the teacher says about a target and its sources, all in the units of the motions.

    Attributes:
        depth: of the target `[B, 1, H, W]`, metres.
        flipped, augmented: the same predicted from the mirrored image (turned back) and from other colors.
        source_depths: of each source `[B, 1, H, W]`.
        features: stride-4 features of the target `[B, C, H/4, W/4]`, and `source_features` of each source.
    """

    depth: Tensor
    flipped: Tensor
    augmented: Tensor
    source_depths: Sequence[Tensor]
    features: Tensor
    source_features: Sequence[Tensor]

    def in_units_of(self, depth: Tensor) -> TeacherViews:
        """The same in the unit of another depth `[B, 1, H, W]`: one factor per image, all maps alike."""
        scale = median_ratio(depth, self.depth, torch.ones_like(depth, dtype=torch.bool))
        depths = [d * scale for d in (self.depth, self.flipped, self.augmented, *self.source_depths)]
        return replace(self, depth=depths[0], flipped=depths[1], augmented=depths[2], source_depths=depths[3:])


def feature_similarity(features: Tensor, source: Tensor, view: View) -> Tensor:
    """Cosine similarity `[B, 1, H, W]` of features at p and p', in [-1, 1].

    Args:
        features, source: `[B, C, H/4, W/4]` of target and source; centred per image first, because what all
            pixels share says nothing about which is which.
        view: at full size.
    """
    height, width = view.pixels.shape[2:]

    def unit(x: Tensor) -> Tensor:
        full = F.interpolate(x - x.mean((2, 3), keepdim=True), (height, width), mode="bilinear", align_corners=False)
        return _normalized(full)

    return (unit(features) * _normalized(sample(unit(source), view))).sum(1, keepdim=True)


def _normalized(x: Tensor) -> Tensor:
    # Written out: torch's norm over the channels of an image takes ten times as long on a CPU.
    return x * x.square().sum(1, keepdim=True).clamp(min=1e-24).rsqrt()


def _gates(
    config: MaskFilterConfig,
    target: Tensor,
    source: Tensor,
    view: View,
    flow: ResidualFlow,
    teacher: TeacherViews,
    number: int,
) -> tuple[dict[str, Tensor], Tensor]:
    """Which pixels pass each gate for one source, and `D_diff`."""
    difference = depth_difference(view.computed_depth, sample(teacher.source_depths[number], view))
    valid = view.valid
    passed = {"view": valid, "geometry": valid & (difference < config.geometry if config.geometry else True)}
    error = photometric_error(sample(source, view), target)
    known = error.masked_fill(~valid, torch.nan).flatten(1)
    limit = torch.nanquantile(known, config.percentile / 100, dim=1).nan_to_num(0).reshape(-1, 1, 1, 1)
    passed["photometry"] = valid & (error <= limit)
    if config.identity:
        passed["photometry"] = passed["photometry"] & (error < photometric_error(source, target))
    similar = feature_similarity(teacher.features, teacher.source_features[number], view)
    passed["features"] = valid & (similar > config.features if config.features > -1 else True)
    fits = flow.deviation(_FLOW_PIXELS * max(1.0, target.shape[3] / REFERENCE_WIDTH), config.flow) < 1
    passed["flow"] = valid & (fits if config.flow else True)
    return passed, difference


def filter_mask(
    config: MaskFilterConfig,
    target: Tensor,
    sources: Sequence[Tensor],
    motions: Sequence[Tensor],
    intrinsics: Tensor,
    teacher: TeacherViews,
) -> MaskResult:
    """Vote over the sources, clean up, and mark what moves.

    Args:
        target: I_t `[B, 3, H, W]` in [0, 1].
        sources: I_s, the same shape each.
        motions: `T_{t->s}` `[B, 4, 4]` each.
        intrinsics: K `[B, 3, 3]`, pixels.
    """
    votes = torch.zeros_like(teacher.depth)
    score = torch.zeros_like(teacher.depth)
    flows: list[ResidualFlow] = []
    passed: dict[str, list[Tensor]] = {}
    for number, (source, motion) in enumerate(zip(sources, motions, strict=True)):
        view = look(teacher.depth, motion, intrinsics)
        flow = residual_flow(target, source, view, look(NUDGE * teacher.depth, motion, intrinsics))
        flows.append(flow)
        gates, difference = _gates(config, target, source, view, flow, teacher, number)
        vote = torch.stack(list(gates.values())).all(0)
        votes += vote
        score += vote * (1 - difference / config.geometry if config.geometry else torch.ones_like(score)).clamp(0, 1)
        for name, gate in gates.items():
            passed.setdefault(name, []).append(gate)
    area = round(config.min_area * target.shape[2] * target.shape[3] / (320 * 256))
    moving = cleaned(moving_regions(flows, target, config.moving_pixels, config.moving_depth), area)
    mask = cleaned(votes >= min(config.min_views, len(sources)), area) & ~moving
    steady = _log_ratio(teacher.depth, teacher.flipped) < config.agreement
    steady &= _log_ratio(teacher.depth, teacher.augmented) < config.agreement
    stacked = {name: torch.cat(list(values), 1) for name, values in passed.items()}
    shares = {name: float(values.float().mean()) for name, values in stacked.items()}
    shares |= {"kept": float(mask.float().mean()), "moving": float(moving.float().mean())}
    return MaskResult(mask, mask * score / len(sources), moving, moving & steady, shares, stacked)


def _log_ratio(a: Tensor, b: Tensor) -> Tensor:
    return (a.log() - b.log()).abs()


def cleaned(mask: Tensor, min_area: int) -> Tensor:
    """Isolated votes removed: 3x3 majority, then regions smaller than `min_area` pixels (8-connected) dropped.

    Args:
        mask: `[B, 1, H, W]` bool.
    """
    majority = F.avg_pool2d(F.pad(mask.float(), (1, 1, 1, 1), mode="replicate"), 3, 1) > 0.5
    if min_area <= 1:
        return majority
    kept = []
    for image in majority[:, 0].cpu().numpy().astype(np.uint8):
        _, labels, stats, _ = cv2.connectedComponentsWithStats(image, connectivity=8)
        large = stats[:, cv2.CC_STAT_AREA] >= min_area
        large[0] = False  # label 0 is what was not in the mask
        kept.append(torch.from_numpy(large[labels]))
    return torch.stack(kept)[:, None].to(mask.device)
