from .config import DepthNetConfig
from .depth_net import DepthNet, disparity_to_depth
from .identity import WeightsError, WeightsInfo, check_depth_net
from .pose_net import PoseNet
from .pose_weights import load_pose_net, save_pose_net
from .weights import load_depth_net, save_depth_net

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
