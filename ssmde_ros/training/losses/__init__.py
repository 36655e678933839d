"""The loss terms of SS-MDE, one file each.

Masked means are zero *with* a gradient path where there is nothing to look at, so that a static clip does not
break a training step.
"""

from ssmde_ros.training.losses.consistency import depth_difference, geometry_loss, settled
from ssmde_ros.training.losses.distillation import distillation_loss, median_ratio, prior_loss
from ssmde_ros.training.losses.masked import masked_mean
from ssmde_ros.training.losses.photometric import PhotometricResult, photometric_error, photometric_loss, ssim
from ssmde_ros.training.losses.pseudo_dynamic import edge_normal_loss, ranking_loss
from ssmde_ros.training.losses.pseudo_static import normal_loss, pseudo_static_loss
from ssmde_ros.training.losses.relatives import filtered_consistency_loss, resolution_loss, successive_scale_loss
from ssmde_ros.training.losses.scale import mean_depth, scale_loss
from ssmde_ros.training.losses.smoothness import smoothness_loss
from ssmde_ros.training.losses.sparse import depth_at, scale_from_points, sparse_loss

__all__ = [
    "PhotometricResult",
    "depth_at",
    "depth_difference",
    "distillation_loss",
    "edge_normal_loss",
    "filtered_consistency_loss",
    "geometry_loss",
    "masked_mean",
    "mean_depth",
    "median_ratio",
    "normal_loss",
    "photometric_error",
    "photometric_loss",
    "prior_loss",
    "pseudo_static_loss",
    "ranking_loss",
    "resolution_loss",
    "scale_from_points",
    "scale_loss",
    "settled",
    "smoothness_loss",
    "sparse_loss",
    "ssim",
    "successive_scale_loss",
]
