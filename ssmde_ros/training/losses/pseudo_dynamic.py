"""Pseudo-depth on what moves: order of depths and relative normals, no absolute values (Sun et al. 2022, sections 3.3, 3.4)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ssmde_ros.geometry import normals_from_depth
from ssmde_ros.training.losses.pseudo import Convention, aligned_depth, centre_and_spread, farther

_SOFT = 0.1  # log depth; tau of the ranking
_EDGE_REACH = 3  # pixels from an edge to the points on either side of it


def _points_in(mask: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Flat indices `[B, count]` drawn evenly from the mask of each image; from everywhere where it is empty."""
    weight = mask.flatten(1).float()
    weight = torch.where(weight.any(1, keepdim=True), weight, torch.ones_like(weight))
    # Multinomial on the CPU: its generator then gives the same draw whatever the device.
    return torch.multinomial(weight.cpu(), count, replacement=True, generator=generator).to(mask.device)


def ranking_loss(
    depth: Tensor,
    pseudo: Tensor,
    dynamic: Tensor,
    convention: Convention = "inverse_depth",
    pairs: int = 2048,
    margin: float = 0.15,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Ordinal loss on pixel pairs that straddle or lie inside dynamic regions.

    `tau softplus(-l (log D_p - log D_q) / tau)` where the map says that p is farther (l = 1) or nearer (l = -1) by
    more than `margin` spreads, `(log D_p - log D_q)^2` where it says neither (Chen et al. 2016; softplus, because
    `log(1 + exp x)` overflows). tau = 0.1: pairs in the right order by a quarter or so are left in peace, where
    tau = 1 would go on pushing until near and far are at the ends of the range. p is drawn from the dynamic pixels,
    q half from them and half from everywhere.

    Args:
        depth: student `[B, 1, H, W]`, metres.
        pseudo: `[B, 1, H, W]`, unknown scale and shift.
        dynamic: `[B, 1, H, W]` bool. Images without any contribute nothing.
        pairs: how many per image.
        generator: source of randomness (CPU).
    """
    generator = generator or torch.Generator().manual_seed(0)
    everywhere = torch.ones_like(dynamic)
    spread = centre_and_spread(pseudo, everywhere)[1].flatten(1)
    first = _points_in(dynamic, pairs, generator)
    half = pairs // 2
    second = torch.cat([_points_in(dynamic, half, generator), _points_in(everywhere, pairs - half, generator)], 1)
    log_depth, flat = depth.log().flatten(1), pseudo.detach().flatten(1)
    difference = log_depth.gather(1, first) - log_depth.gather(1, second)
    order = farther(convention) * (flat.gather(1, first) - flat.gather(1, second)) / spread
    label = torch.where(order.abs() > margin, order.sign(), 0.0)
    loss = torch.where(label != 0, _SOFT * F.softplus(-label * difference / _SOFT), difference**2)
    has_dynamic = dynamic.flatten(1).any(1).to(loss)
    return (loss.mean(1) * has_dynamic).mean()


def edge_normal_loss(
    depth: Tensor,
    pseudo: Tensor,
    dynamic: Tensor,
    intrinsics: Tensor,
    convention: Convention = "inverse_depth",
    pairs: int = 1024,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Relative normals across edges: `mean |n_a . n_b - n*_a . n*_b|`, a and b on either side of an edge.

    Edges are the strongest gradients of the pseudo-depth inside dynamic regions; the angle between the surfaces
    on both sides is what makes an object's outline sharp, and it does not depend on where the object is.

    Args:
        depth, pseudo, dynamic: as in `ranking_loss`.
        intrinsics: K `[B, 3, 3]`, pixels.
    """
    generator = generator or torch.Generator().manual_seed(0)
    height, width = depth.shape[2:]
    everywhere = torch.ones_like(dynamic)
    with torch.no_grad():
        wanted = normals_from_depth(aligned_depth(pseudo, depth, everywhere, convention), intrinsics)
        padded = F.pad(pseudo, (1, 1, 1, 1), mode="replicate")
        across = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
        down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
        size = (across**2 + down**2).sqrt()
        strong = size >= torch.quantile(size.flatten(1), 0.9, dim=1).reshape(-1, 1, 1, 1)
        at = _points_in(dynamic & strong & (size > 0), pairs, generator)
        # Step along the gradient, to both sides of the edge.
        pick = torch.cat([across, down], 1).flatten(2).gather(2, at[:, None].expand(-1, 2, -1))
        step = F.normalize(pick, dim=1) * _EDGE_REACH
        u, v = (at % width).float(), (at // width).float()
        ends = []
        for sign in (1, -1):
            x = (u + sign * step[:, 0]).round().clamp(0, width - 1)
            y = (v + sign * step[:, 1]).round().clamp(0, height - 1)
            ends.append((y * width + x).long())
    found = normals_from_depth(depth, intrinsics)

    def angle(normals: Tensor) -> Tensor:
        flat = normals.flatten(2)
        a, b = (flat.gather(2, end[:, None].expand(-1, 3, -1)) for end in ends)
        return (a * b).sum(1)

    error = (angle(found) - angle(wanted)).abs().mean(1)
    has_edge = (dynamic & strong & (size > 0)).flatten(1).any(1).to(error)
    return (error * has_edge).mean()
