"""The loss terms of SS-MDE, one file each (DESIGN section 1).

Masked means are weighted sums over `max(sum of weights, 1)`: with nothing to look at they are zero *with*
a gradient path, so that a static clip does not break a training step.
"""

from ssmde_ros.training.losses.consistency import depth_difference, geometry_loss
from ssmde_ros.training.losses.distillation import distillation_loss
from ssmde_ros.training.losses.masked import masked_mean
from ssmde_ros.training.losses.photometric import photometric_error, photometric_loss, ssim
from ssmde_ros.training.losses.smoothness import smoothness_loss

__all__ = [
    "depth_difference",
    "distillation_loss",
    "geometry_loss",
    "masked_mean",
    "photometric_error",
    "photometric_loss",
    "smoothness_loss",
    "ssim",
]
