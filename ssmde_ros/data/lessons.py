"""Lessons in motion: pictures seen again from where a known motion leads.

Any picture will do. It comes with a depth, or one is drawn; a motion is drawn, and view synthesis shows what the picture
looks like from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ssmde_ros.geometry import look, rigid_motion, so3_exp

_SIZES = ((96, 80), (112, 64), (152, 48))  # width, height of lessons: upright, usual and very wide cameras
PICTURE_SIZE = (256, 192)  # width, height at which pictures are kept; lessons are cut out of them
_TURN, _TRAVEL = 8.0, 7.0  # pixels that a drawn motion moves the image, about
_CELL, _REACH = 4, 19  # pixels: of the pose network, the stride of its features and what its window holds


@dataclass(frozen=True)
class Picture:
    """What lessons are cut out of.

    Attributes:
        image: `[3, h, w]` in [0, 1].
        inverse_depth: `[1, h, w]`, up to scale.
    """

    image: Tensor
    inverse_depth: Tensor


@dataclass  # not frozen: Lightning moves the tensors of a batch in place
class Lessons:
    """A batch.

    Attributes:
        target, source: `[B, 3, H, W]` in [0, 1], their looks drawn independently.
        intrinsics: `[B, 3, 3]`.
        motion: `T_{t->s}` `[B, 4, 4]`; the mean inverse depth of the target is 1.
        flow: `[B, 2, H/4, W/4]` in units of the image plane at depth 1.
        seen: `[B, 1, H/4, W/4]` bool, places whose flow lies within the network's window.
    """

    target: Tensor
    source: Tensor
    intrinsics: Tensor
    motion: Tensor
    flow: Tensor
    seen: Tensor


def draw_lessons(pictures: Sequence[Picture], count: int, draw: torch.Generator) -> Lessons:
    """A batch of lessons of one size.

    Args:
        draw: source of randomness; the same state gives the same lessons.
    """
    width, height = _SIZES[int(torch.randint(len(_SIZES), (1,), generator=draw))]
    chosen = [pictures[int(i)] for i in torch.randint(len(pictures), (count,), generator=draw)]
    lens = _lenses(count, width, height, draw)
    place = _crops(count, width, height, draw)
    here = _grid(width, height).expand(count, -1, -1, -1)
    images = torch.stack([p.image for p in chosen])
    source = _cut(images, place, here)
    near = _cut(torch.stack([p.inverse_depth for p in chosen]), place, here)
    drawn = torch.rand(count, 1, 1, 1, generator=draw) < 0.5
    near = torch.where(drawn, _random_inverse_depth(count, width, height, draw), near)
    near = near / near.mean((2, 3), keepdim=True)
    motion = _motions(lens, draw)
    view = look(1 / near, motion, lens)
    target = _cut(images, place, view.pixels)
    flow = F.avg_pool2d(view.pixels - here, _CELL)
    seen = flow.abs().amax(1, keepdim=True) < _REACH
    return Lessons(
        _another_look(target, draw), _another_look(source, draw), lens, motion,
        flow / lens[:, (0, 1), (0, 1), None, None], seen,
    )  # fmt: skip


def _lenses(count: int, width: int, height: int, draw: torch.Generator) -> Tensor:
    """K `[B, 3, 3]`, horizontal fields of view from about 40 to 90 degrees."""
    lens = torch.eye(3).repeat(count, 1, 1)
    focal = (0.5 + 0.9 * torch.rand(count, generator=draw)) * max(width, 1.2 * height)
    lens[:, 0, 0] = focal
    lens[:, 1, 1] = focal * (0.9 + 0.2 * torch.rand(count, generator=draw))
    lens[:, :2, 2] = torch.tensor([(width - 1) / 2, (height - 1) / 2]) + 4 * torch.randn(count, 2, generator=draw)
    return lens


def _crops(count: int, width: int, height: int, draw: torch.Generator) -> Tensor:
    """Where lessons lie in pictures: affine maps `[B, 2, 3]` from pixels to pixels; half of them mirror."""
    wide, high = PICTURE_SIZE
    margin = 1.35  # what a motion may bring into view lies beyond the frame
    largest = min(wide / (margin * width), high / (margin * height))
    zoom = largest * (0.55 + 0.45 * torch.rand(count, generator=draw))
    mirror = torch.where(torch.rand(count, generator=draw) < 0.5, -1.0, 1.0)
    room = torch.tensor([wide, high]) - zoom[:, None] * margin * torch.tensor([width, height])
    centre = torch.tensor([wide, high]) / 2 + (torch.rand(count, 2, generator=draw) - 0.5) * room.clamp(min=0)
    result = torch.zeros(count, 2, 3)
    result[:, 0, 0], result[:, 1, 1] = zoom * mirror, zoom
    result[:, 0, 2] = centre[:, 0] - zoom * mirror * (width - 1) / 2
    result[:, 1, 2] = centre[:, 1] - zoom * (height - 1) / 2
    return result


def _grid(width: int, height: int) -> Tensor:
    """Pixel coordinates `[2, H, W]`."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns, rows]).float()


def _cut(pictures: Tensor, place: Tensor, pixels: Tensor) -> Tensor:
    """Pictures `[B, C, h, w]` at `place` of the pixels `[B, 2, H, W]`; beyond the border they are reflected."""
    points = torch.einsum("bij,bjhw->bihw", place[:, :, :2], pixels) + place[:, :, 2, None, None]
    size = torch.tensor([pictures.shape[3] - 1, pictures.shape[2] - 1]).view(1, 2, 1, 1)
    grid = (points * 2 / size - 1).permute(0, 2, 3, 1)
    return F.grid_sample(pictures, grid, padding_mode="reflection", align_corners=True)


def _random_inverse_depth(count: int, width: int, height: int, draw: torch.Generator) -> Tensor:
    """A tilted, bumpy plane with up to three boxes before or behind it `[B, 1, H, W]`."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    tilt = 0.35 * torch.randn(2, count, 1, 1, 1, generator=draw)
    bumps = 0.25 * torch.randn(count, 1, 4, 4, generator=draw)
    result = (1 + tilt[0] * x + tilt[1] * y) * F.interpolate(bumps, (height, width), mode="bicubic").exp()
    for _ in range(3):
        there = torch.rand(count, 1, 1, 1, generator=draw) < 0.6
        centre = 2 * torch.rand(2, count, 1, 1, 1, generator=draw) - 1
        half = 0.1 + 0.5 * torch.rand(2, count, 1, 1, 1, generator=draw)
        box = ((x - centre[0]).abs() < half[0]) & ((y - centre[1]).abs() < half[1]) & there
        result = torch.where(box, 0.3 + 2 * torch.rand(count, 1, 1, 1, generator=draw), result)
    return result.clamp(0.15, 6)


def _motions(lens: Tensor, draw: torch.Generator) -> Tensor:
    """`T_{t->s}` `[B, 4, 4]`: from none at all to turns and travels that fill the network's window."""
    count, focal = len(lens), lens[:, 0, :1]
    turn = torch.randn(count, 3, generator=draw) * torch.tensor([1.0, 1.0, 1.5])
    travel = torch.randn(count, 3, generator=draw) * torch.tensor([1.0, 1.0, 2.0])
    how_far = torch.rand(2, count, 1, generator=draw)
    turn = turn * how_far[0].sqrt() * _TURN / focal
    return rigid_motion(so3_exp(turn), travel * how_far[1] * _TRAVEL / focal)


def _another_look(images: Tensor, draw: torch.Generator) -> Tensor:
    """Brightness, color and noise, drawn for each image."""
    count = len(images)
    gain = (0.75 + 0.5 * torch.rand(count, 1, 1, 1, generator=draw)) * (
        0.95 + 0.1 * torch.rand(count, 3, 1, 1, generator=draw)
    )
    shift = 0.1 * torch.rand(count, 1, 1, 1, generator=draw) - 0.05
    noise = 0.02 * torch.rand(count, 1, 1, 1, generator=draw) * torch.randn(images.shape, generator=draw)
    return (images * gain + shift + noise).clamp(0, 1)
