"""Depth metrics and the protocols of the public benchmarks (DESIGN section 2)."""

from ssmde_ros.evaluation.metrics import METRIC_KEYS, Align, DepthMetrics, align_depth, depth_metrics
from ssmde_ros.evaluation.protocol import Protocol, evaluate_frame, mean_metrics

__all__ = [
    "METRIC_KEYS",
    "Align",
    "DepthMetrics",
    "Protocol",
    "align_depth",
    "depth_metrics",
    "evaluate_frame",
    "mean_metrics",
]
