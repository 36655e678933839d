"""A box before a wall, seen from three places: what the mask filter is tested on."""

import torch
from torch.nn import functional as F

from ssmde_ros.training.mask_filter import MaskFilterConfig, TeacherViews

H, W, FOCAL = 48, 64, 50.0
K = torch.tensor([[[FOCAL, 0, (W - 1) / 2], [0, FOCAL, (H - 1) / 2], [0, 0, 1]]])
STEP = 0.16  # metres between frames: two pixels on the wall, four on the box
ROWS, COLUMNS = slice(16, 32), slice(24, 40)  # of the box in the target
OPEN = MaskFilterConfig(geometry=0, percentile=100, identity=False, features=-1, flow=0, min_area=0)


def texture(x, y, phase):
    channels = [
        (torch.sin((5 + c) * x + phase) * torch.cos((6 - c) * y) + torch.sin(3 * x + 4 * y + c)) for c in (0, 1, 2)
    ]
    return 0.5 + 0.2 * torch.stack(channels)[None]


def seen_from(camera, shift=0.0):
    """Image and depth of a wall 4 m away and a box at 2 m, from `camera` metres to the right; the box is moved by `shift`."""
    v, u = torch.meshgrid(torch.arange(H).float(), torch.arange(W).float(), indexing="ij")
    x, y = (u - K[0, 0, 2]) / FOCAL, (v - K[0, 1, 2]) / FOCAL
    # Column of the target that shows this place of the box.
    from_left = (2 * x + camera - shift) / 2 * FOCAL + K[0, 0, 2]
    box = (from_left >= COLUMNS.start) & (from_left < COLUMNS.stop) & (v >= ROWS.start) & (v < ROWS.stop)
    image = torch.where(box, texture(2 * x + camera - shift, 2 * y, 1.0), texture(4 * x + camera, 4 * y, 0.0))
    return image.clamp(0, 1), torch.where(box, 2.0, 4.0)[None, None]


def features_of(image):
    kernel = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.conv2d(F.pad(image, (2, 2, 2, 2), mode="replicate"), kernel, stride=4)


def motion(x=0.0):
    """T_{t->s} of a source camera `x` metres to the right."""
    matrix = torch.eye(4)[None]
    matrix[:, 0, 3] = -x
    return matrix


def scene(shift=0.0, depth=None):
    """Arguments of `filter_mask`; `shift`: what the box moves between frames, metres."""
    target, true_depth = seen_from(0.0)
    depth = true_depth if depth is None else depth
    before, after = seen_from(-STEP, -shift), seen_from(STEP, shift)
    teacher = TeacherViews(
        depth, depth, depth, [before[1], after[1]], features_of(target), [features_of(v[0]) for v in (before, after)]
    )
    return target, [before[0], after[0]], [motion(-STEP), motion(STEP)], K, teacher


def box(grow=0):
    mask = torch.zeros(1, 1, H, W, dtype=torch.bool)
    mask[..., ROWS.start - grow : ROWS.stop + grow, COLUMNS.start - grow : COLUMNS.stop + grow] = True
    return mask


def share(mask, where):
    return mask[where].float().mean().item()
