"""Lessons in motion: what they say must be what they show."""

import pytest
import torch
from torch.nn import functional as F

from ssmde_ros.data.lessons import PICTURE_SIZE, Picture, draw_lessons


@pytest.fixture(scope="module")
def pictures():
    """Smooth random pictures before a tilted plane."""
    draw = torch.Generator().manual_seed(0)
    width, height = PICTURE_SIZE
    near = torch.linspace(0.5, 1.5, height).reshape(1, -1, 1).expand(1, height, width).contiguous()
    coarse = torch.rand(6, 3, height // 8, width // 8, generator=draw)
    return [Picture(image, near) for image in F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)]


def lessons_of(pictures, seed, count=8):
    return draw_lessons(pictures, count, torch.Generator().manual_seed(seed))


def places(lessons):
    """Rays `[B, 3, h, w]` of the places whose flow is known."""
    h, w = lessons.flow.shape[2:]
    y, x = torch.meshgrid(torch.arange(h) * 4 + 1.5, torch.arange(w) * 4 + 1.5, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)]).flatten(1)
    return (torch.linalg.inv(lessons.intrinsics) @ points).unflatten(2, (h, w))


def test_shapes_and_ranges(pictures):
    sizes = set()
    for seed in range(8):
        lessons = lessons_of(pictures, seed)
        b, _, h, w = lessons.target.shape
        sizes.add((w, h))
        assert lessons.source.shape == (b, 3, h, w)
        assert lessons.flow.shape == (b, 2, h // 4, w // 4)
        assert lessons.seen.shape == (b, 1, h // 4, w // 4)
        assert lessons.seen.float().mean() > 0.3
        for images in (lessons.target, lessons.source):
            assert images.min() >= 0
            assert images.max() <= 1
        turned = lessons.motion[:, :3, :3]
        torch.testing.assert_close(turned @ turned.mT, torch.eye(3).expand(b, 3, 3), atol=1e-5, rtol=0)
    assert len(sizes) == 3


def test_the_same_seed_draws_the_same_lessons(pictures):
    a, b, other = lessons_of(pictures, 1), lessons_of(pictures, 1), lessons_of(pictures, 2)
    for name in vars(a):
        assert torch.equal(getattr(a, name), getattr(b, name)), name
    assert not torch.equal(a.motion, other.motion)


@pytest.mark.parametrize("seed", range(4))
def test_flow_obeys_the_epipolar_constraint_of_the_motion(pictures, seed):
    lessons = lessons_of(pictures, seed)
    rays = places(lessons)
    there = rays + F.pad(lessons.flow, (0, 0, 0, 0, 0, 1))
    t = lessons.motion[:, :3, 3]
    turned = torch.einsum("bij,bjhw->bihw", lessons.motion[:, :3, :3], rays)
    normal = torch.cross(t[:, :, None, None].expand_as(turned), turned, dim=1)
    # Distance to the epipolar line, pixels. Flow is a mean over four by four pixels, hence the tolerance.
    line = normal[:, :2].norm(dim=1).clamp(min=1e-6)
    distance = (normal * there).sum(1).abs() / line * lessons.intrinsics[:, 0, 0].view(-1, 1, 1)
    assert distance[lessons.seen[:, 0]].median() < 0.05


@pytest.mark.parametrize("seed", range(4))
def test_the_source_shows_at_the_end_of_the_flow_what_the_target_shows(pictures, seed):
    lessons = lessons_of(pictures, seed)
    there = places(lessons) + F.pad(lessons.flow, (0, 0, 0, 0, 0, 1))
    pixels = torch.einsum("bij,bjhw->bihw", lessons.intrinsics, there)[:, :2]
    height, width = lessons.target.shape[2:]
    size = torch.tensor([width - 1, height - 1]).view(1, 2, 1, 1)
    grid = (pixels * 2 / size - 1).permute(0, 2, 3, 1)
    shown = F.grid_sample(lessons.source, grid, align_corners=True)
    wanted = F.avg_pool2d(lessons.target, 4)
    kept = (lessons.seen & (grid.abs().amax(3) < 1)[:, None]).expand(-1, 3, -1, -1)
    still = F.avg_pool2d(lessons.source, 4)

    def likeness(a, b):
        pairs = [
            torch.corrcoef(torch.stack([a[i][kept[i]], b[i][kept[i]]]))[0, 1]
            for i in range(len(a))
            if kept[i].sum() > 60
        ]
        assert len(pairs) > 4
        return torch.stack(pairs).median()

    assert likeness(shown, wanted) > 0.9
    assert likeness(shown, wanted) > likeness(still, wanted) + 0.1


def test_motions_are_measured_by_the_mean_inverse_depth(pictures):
    lessons = lessons_of(pictures, 0, count=32)
    rays = places(lessons)
    there = rays + F.pad(lessons.flow, (0, 0, 0, 0, 0, 1))
    turned = torch.einsum("bij,bjhw->bihw", lessons.motion[:, :3, :3], rays)
    t = lessons.motion[:, :3, 3, None, None].expand_as(turned)
    # there ~ R x + t / Z, so their cross product with `there` vanishes: linear in 1/Z.
    a, b = torch.cross(there, turned, dim=1), torch.cross(there, t, dim=1)
    inverse_depth = -(a * b).sum(1) / (b * b).sum(1)
    far_enough = lessons.motion[:, :3, 3].norm(dim=1) * lessons.intrinsics[:, 0, 0] > 2
    assert far_enough.sum() > 8
    assert inverse_depth[far_enough].mean((1, 2)).median().item() == pytest.approx(1, abs=0.05)
