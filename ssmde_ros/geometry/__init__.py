"""Camera models, rays and projection. Knows torch, and nothing of data, networks or ROS."""

from ssmde_ros.geometry.camera import PinholeCamera, back_project, pixel_rays, project

__all__ = ["PinholeCamera", "back_project", "pixel_rays", "project"]
