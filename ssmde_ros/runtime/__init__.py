"""The live path: an image in, depth and points out, as fast as the machine allows."""

from ssmde_ros.geometry import Rectifier
from ssmde_ros.runtime.cloud import CloudBuilder, CloudConfig
from ssmde_ros.runtime.color import color_depth
from ssmde_ros.runtime.create import create_engine
from ssmde_ros.runtime.engines import Engine, EngineConfig
from ssmde_ros.runtime.estimator import DepthEstimator, DepthFrame, EstimatorConfig

__all__ = [
    "CloudBuilder",
    "CloudConfig",
    "DepthEstimator",
    "DepthFrame",
    "Engine",
    "EngineConfig",
    "EstimatorConfig",
    "Rectifier",
    "color_depth",
    "create_engine",
]
