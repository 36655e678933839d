"""View synthesis: what a source view says about the target view."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from ssmde_ros.geometry.projection import back_project, project
from ssmde_ros.geometry.se3 import transform

_NEAREST = 1e-3  # metres; closer points project to nowhere in particular


@dataclass(frozen=True)
class View:
    """The source seen from the target's pixels.

    Attributes:
        pixels: `[B, 2, H, W]`, p' in the source image.
        computed_depth: `[B, 1, H, W]`, z' of the moved points, metres; not positive behind the camera.
        in_view: `[B, 1, H, W]` bool, p' lands inside the source image.
        in_front: `[B, 1, H, W]` bool, the point lies in front of the source camera.
    """

    pixels: Tensor
    computed_depth: Tensor
    in_view: Tensor
    in_front: Tensor

    @property
    def valid(self) -> Tensor:
        """`[B, 1, H, W]` bool: inside the image and in front of the camera."""
        return self.in_view & self.in_front


def look(depth: Tensor, motion: Tensor, intrinsics: Tensor, source_intrinsics: Tensor | None = None) -> View:
    """Where each target pixel lies in the source: `X' = T_{t->s} D_t(p) K^-1 p`, `p' = pi(K X')`.

    Args:
        depth: target depth D_t `[B, 1, H, W]`, metres.
        motion: `T_{t->s}` `[B, 4, 4]`.
        intrinsics: target K `[B, 3, 3]`, pixels.
        source_intrinsics: source K when it is another; the source image has the target's size.
    """
    points = transform(motion, back_project(depth, intrinsics))
    pixels, z = project(points, intrinsics if source_intrinsics is None else source_intrinsics)
    height, width = depth.shape[2:]
    u, v = pixels[:, :1], pixels[:, 1:]
    in_view = (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1)
    return View(pixels, z, in_view, z > _NEAREST)


def sample(source: Tensor, view: View) -> Tensor:
    """`I_s<p'>`: a source map `[B, C, H, W]` bilinearly sampled at a view's pixels.

    Outside the image the border is repeated: mask with `view.valid`.
    """
    height, width = source.shape[2:]
    scale = view.pixels.new_tensor([2 / (width - 1), 2 / (height - 1)])
    grid = view.pixels.permute(0, 2, 3, 1) * scale - 1
    return F.grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=True)
