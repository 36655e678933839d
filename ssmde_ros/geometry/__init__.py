"""Camera models, rays and projection. Knows torch, and nothing of data, networks or ROS."""

from ssmde_ros.geometry.calibration import CameraCalibration
from ssmde_ros.geometry.camera import PinholeCamera, back_project, pixel_rays, project

__all__ = ["CameraCalibration", "PinholeCamera", "back_project", "pixel_rays", "project"]
