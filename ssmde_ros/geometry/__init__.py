"""Camera models, rigid motions, view synthesis. Knows torch, and nothing of data, networks or ROS."""

from ssmde_ros.geometry.calibration import CameraCalibration
from ssmde_ros.geometry.camera import PinholeCamera, back_project, pixel_rays, project
from ssmde_ros.geometry.normals import normals_from_depth
from ssmde_ros.geometry.rectify import Rectifier
from ssmde_ros.geometry.se3 import inverse, rigid_motion, se3_exp, so3_exp, transform
from ssmde_ros.geometry.two_view import TwoView, TwoViewConfig, relative_motion, structure, two_view
from ssmde_ros.geometry.warp import View, look, sample

__all__ = [
    "CameraCalibration",
    "PinholeCamera",
    "Rectifier",
    "TwoView",
    "TwoViewConfig",
    "View",
    "back_project",
    "inverse",
    "look",
    "normals_from_depth",
    "pixel_rays",
    "project",
    "relative_motion",
    "rigid_motion",
    "sample",
    "se3_exp",
    "so3_exp",
    "structure",
    "transform",
    "two_view",
]
