"""Networks and their weight files. Knows nothing of data."""

from ssmde_ros.networks.depth_net import DepthNet, DepthNetConfig, disparity_to_depth
from ssmde_ros.networks.pose_net import PoseNet
from ssmde_ros.networks.pose_weights import load_pose_net, save_pose_net
from ssmde_ros.networks.weights import WeightsError, WeightsInfo, check_depth_net, load_depth_net, save_depth_net

__all__ = [
    "DepthNet",
    "DepthNetConfig",
    "PoseNet",
    "WeightsError",
    "WeightsInfo",
    "check_depth_net",
    "disparity_to_depth",
    "load_depth_net",
    "load_pose_net",
    "save_depth_net",
    "save_pose_net",
]
