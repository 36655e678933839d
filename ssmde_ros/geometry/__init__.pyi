from .calibration import CameraCalibration
from .camera import PinholeCamera
from .normals import normals_from_depth
from .projection import back_project, pixel_rays, project
from .rectify import Rectifier
from .se3 import inverse, rigid_motion, se3_exp, so3_exp, transform
from .two_view import TwoView, TwoViewConfig, relative_motion, structure, two_view
from .warp import View, look, sample

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
