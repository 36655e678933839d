"""Depth metrics and the protocols of the public benchmarks."""

from ssmde_ros.evaluation.metrics import (
    METRIC_KEYS,
    Align,
    Alignment,
    DepthMetrics,
    align_depth,
    depth_metrics,
    fit_alignment,
)
from ssmde_ros.evaluation.protocol import (
    PROTOCOLS,
    AlignedFrame,
    Protocol,
    align_frame,
    evaluate_frame,
    mean_metrics,
    named_protocol,
)
from ssmde_ros.evaluation.ranges import RangeBin, RangeErrors
from ssmde_ros.evaluation.regions import REGIONS, FrameScore, Region, RegionScore, mean_regions, score_regions

__all__ = [
    "METRIC_KEYS",
    "PROTOCOLS",
    "REGIONS",
    "Align",
    "AlignedFrame",
    "Alignment",
    "DepthMetrics",
    "FrameScore",
    "Protocol",
    "RangeBin",
    "RangeErrors",
    "Region",
    "RegionScore",
    "align_depth",
    "align_frame",
    "depth_metrics",
    "evaluate_frame",
    "fit_alignment",
    "mean_metrics",
    "mean_regions",
    "named_protocol",
    "score_regions",
]
