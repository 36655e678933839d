"""The ray caster: exact intersections with planes, boxes and ellipsoids, in plain torch.

Each solid is only tested against the pixels inside its projected bounding rectangle, which makes a
320x256 frame of a hundred solids about a tenth of a second on one core. Shading (texture, sun or lamp
with shadows, haze) is looked up once per pixel at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssmde_ros.data.synthetic.scene import Light, Plane, Scene, Solid
from ssmde_ros.data.synthetic.textures import sample_texture, texture_id

_NEAR = 0.05  # metres; nothing closer is seen
_CASTERS = 48  # solids that throw shadows: the nearest ones
_SHADOW_RANGE = 40.0  # metres


@dataclass(frozen=True)
class Hits:
    """What each pixel sees.

    Attributes:
        depth: `[H, W]` metres along the optical axis, infinity for the sky.
        index: `[H, W]` int64, planes first and then solids, -1 for the sky.
    """

    depth: Tensor
    index: Tensor


def _vector(values: Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    """Numbers as float32, whatever float the scene was drawn with."""
    return torch.tensor(values, dtype=torch.float32)


def solid_at(solid: Solid, time: float) -> tuple[float, float, float]:
    """Centre of a solid at `time` seconds, metres."""
    x, y, z = (c + v * time for c, v in zip(solid.centre, solid.velocity, strict=True))
    return x, y, z


def _local(solid: Solid, vectors: Tensor) -> Tensor:
    """World vectors `[3, ...]` in the solid's own axes."""
    cos, sin = float(np.cos(solid.yaw)), float(np.sin(solid.yaw))
    x, y, z = vectors
    return torch.stack([cos * x - sin * z, y, sin * x + cos * z])


def intersect(solid: Solid, centre: tuple[float, float, float], origin: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Ray parameters at entry and exit; entry > exit where the ray misses.

    Args:
        origin: `[3]` or the shape of `rays`, metres, world frame.
        rays: `[3, ...]`, world frame, any length.

    Returns:
        entry and exit `[...]`, in units of the ray's length.
    """
    shift = origin - _vector(centre).reshape(3, *[1] * (origin.ndim - 1))
    start, ray = _local(solid, shift), _local(solid, rays)
    start = start.reshape(3, *[1] * (ray.ndim - 1)) if start.ndim == 1 else start
    half = _vector(solid.half).reshape(3, *[1] * (ray.ndim - 1))
    if solid.kind == "box":
        inverse = 1 / torch.where(ray.abs() < 1e-9, torch.full_like(ray, 1e-9), ray)
        first, second = (-half - start) * inverse, (half - start) * inverse
        return torch.minimum(first, second).amax(0), torch.maximum(first, second).amin(0)
    start, ray = start / half, ray / half
    a, b = (ray * ray).sum(0), (start * ray).sum(0)
    root = b * b - a * ((start * start).sum(0) - 1)
    reach = root.clamp(min=0).sqrt()
    missed = root <= 0
    return torch.where(missed, torch.inf, (-b - reach) / a), torch.where(missed, -torch.inf, (-b + reach) / a)


def _rectangle(
    solid: Solid, centre: tuple[float, float, float], pose: Tensor, intrinsics: Tensor, size: tuple[int, int]
) -> tuple[slice, slice] | None:
    """Rows and columns that can see the solid; None when it is behind the camera or out of view."""
    signs = torch.tensor([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=torch.float32).T
    corners = signs * _vector(solid.half)[:, None]
    cos, sin = float(np.cos(solid.yaw)), float(np.sin(solid.yaw))
    turned = torch.stack([cos * corners[0] + sin * corners[2], corners[1], -sin * corners[0] + cos * corners[2]])
    seen = pose[:3, :3].T @ (turned + _vector(centre)[:, None] - pose[:3, 3:])
    if seen[2].max() <= _NEAR:
        return None
    if seen[2].min() <= _NEAR:
        return slice(0, size[0]), slice(0, size[1])
    pixels = intrinsics @ seen
    u, v = (pixels[0] / pixels[2]).numpy(), (pixels[1] / pixels[2]).numpy()
    left, right = max(int(u.min()) - 1, 0), min(int(u.max()) + 3, size[1])
    top, bottom = max(int(v.min()) - 1, 0), min(int(v.max()) + 3, size[0])
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def cast(scene: Scene, time: float, pose: Tensor, rays: Tensor, intrinsics: Tensor | None) -> Hits:
    """First hit of every ray.

    Args:
        pose: camera to world `[4, 4]`.
        rays: `[3, H, W]` in the world frame, with unit length along the optical axis.
        intrinsics: K `[3, 3]` to skip pixels that cannot see a solid, or None (distorted lens): test all.
    """
    _, height, width = rays.shape
    origin = pose[:3, 3]
    depth = torch.full((height, width), torch.inf)
    index = torch.full((height, width), -1, dtype=torch.int64)
    for number, plane in enumerate(scene.planes):
        normal = _vector(plane.normal)
        slope = (normal[:, None, None] * rays).sum(0)
        distance = normal @ (_vector(plane.point) - origin) / torch.where(slope.abs() < 1e-9, 1e-9, slope)
        closer = (distance > _NEAR) & (distance < depth)
        depth = torch.where(closer, distance, depth)
        index = torch.where(closer, number, index)
    everywhere = (slice(0, height), slice(0, width))
    for number, solid in enumerate(scene.solids, start=len(scene.planes)):
        centre = solid_at(solid, time)
        area = everywhere if intrinsics is None else _rectangle(solid, centre, pose, intrinsics, (height, width))
        if area is None:
            continue
        entry, leave = intersect(solid, centre, origin, rays[:, area[0], area[1]])
        closer = (entry < leave) & (entry > _NEAR) & (entry < depth[area])
        depth[area] = torch.where(closer, entry, depth[area])
        index[area] = torch.where(closer, number, index[area])
    return Hits(depth, index)


@dataclass(frozen=True)
class _Surface:
    """Per hit pixel `[P]`: unit normals `[3, P]`, texture coordinates in metres `[P]` and `[P]`."""

    normal: Tensor
    u: Tensor
    v: Tensor


def _surface(scene: Scene, time: float, points: Tensor, index: Tensor) -> _Surface:
    """Normals and texture coordinates at hit points `[3, P]`."""
    planes, solids = scene.planes, scene.solids
    centres = _vector([p.point for p in planes] + [solid_at(s, time) for s in solids]).T[:, index]
    yaw = _vector([0.0] * len(planes) + [s.yaw for s in solids])
    cos, sin = yaw.cos()[index], yaw.sin()[index]
    half = _vector([(1.0, 1.0, 1.0)] * len(planes) + [s.half for s in solids]).T[:, index]
    is_plane = index < len(planes)
    is_ball = torch.tensor([False] * len(planes) + [s.kind == "ellipsoid" for s in solids])[index]
    shift = points - centres
    local = torch.stack([cos * shift[0] - sin * shift[2], shift[1], sin * shift[0] + cos * shift[2]])
    face = (local.abs() / half).argmax(0)
    flat = _vector([p.normal for p in planes] + [(0.0, 0.0, 0.0)] * len(solids)).T[:, index]
    face = torch.where(is_plane, flat.abs().argmax(0), face)
    box_normal = torch.nn.functional.one_hot(face, 3).T * local.sign()
    normal = torch.where(is_ball, local / half**2, box_normal)
    normal = normal / normal.norm(dim=0).clamp(min=1e-9)
    normal = torch.stack([cos * normal[0] + sin * normal[2], normal[1], -sin * normal[0] + cos * normal[2]])
    normal = torch.where(is_plane, flat, normal)
    around = torch.atan2(local[0] / half[0], local[2] / half[2]) * torch.maximum(half[0], half[2])
    u = torch.where(is_ball, around, torch.where(face == 0, local[2], local[0]))
    v = torch.where(~is_ball & (face == 1), local[2], local[1])
    return _Surface(normal, u, v)


def _lit(scene: Scene, time: float, points: Tensor, normal: Tensor, depth: Tensor) -> Tensor:
    """Light `[P]` on each point: ambient plus Lambert, with shadows of the nearest solids."""
    light: Light = scene.light
    vector = _vector(light.vector)[:, None]
    towards = vector - points if light.is_lamp else vector.expand_as(points)
    distance = towards.norm(dim=0)
    cosine = ((normal * towards).sum(0) / distance.clamp(min=1e-6)).clamp(min=0)
    if light.is_lamp:
        cosine = cosine * 1.6 / (1 + (distance / 3) ** 2)
    facing = ((cosine > 0) & (depth < _SHADOW_RANGE)).nonzero()[:, 0]
    origins = points[:, facing] + 0.01 * normal[:, facing]
    rays = towards[:, facing]
    shadow = torch.zeros(len(facing), dtype=torch.bool)
    eye = _vector(scene.path.start)
    near = sorted(scene.solids, key=lambda s: float((_vector(solid_at(s, time)) - eye).norm()))
    reach = 1.0 if light.is_lamp else torch.inf
    for solid in near[:_CASTERS]:
        entry, leave = intersect(solid, solid_at(solid, time), origins, rays)
        shadow |= (entry < leave) & (entry > 1e-3) & (entry < reach)
    cosine[facing] *= 1 - 0.9 * shadow.float()
    return light.ambient + (1 - light.ambient) * 1.2 * cosine


def _sky(scene: Scene, rays: Tensor) -> Tensor:
    """Sky colors `[3, P]` along world rays `[3, P]`: a gradient with clouds."""
    if scene.sky is None:
        return torch.zeros_like(rays)
    horizon, zenith = (_vector(c)[:, None] for c in scene.sky)
    up = (-rays[1] / rays.norm(dim=0)).clamp(0, 1)
    color = horizon + (zenith - horizon) * (up * 2).clamp(max=1)
    lift = up.clamp(min=0.03)
    u, v = rays[0] / lift / 12, rays[2] / lift / 12
    clouds = sample_texture(torch.full(u.shape, texture_id("cloud")), u, v, torch.full_like(u, 0.01))
    return color + (0.95 - color) * ((clouds - 0.55) * 2).clamp(0, 1) * 0.8


def shade(scene: Scene, time: float, pose: Tensor, rays: Tensor, hits: Hits, focal: float) -> Tensor:
    """Colors of all hits.

    Args:
        rays: `[3, H, W]`, world frame, unit along the optical axis.
        focal: pixels; sets how much surface one pixel covers.

    Returns:
        Image `[3, H, W]`, linear in [0, 1] before exposure.
    """
    flat_rays = rays.reshape(3, -1)
    index, depth = hits.index.flatten(), hits.depth.flatten()
    seen = (index >= 0).nonzero()[:, 0]
    image = _sky(scene, flat_rays)
    if len(seen):
        image[:, seen] = _shade_hits(
            scene, time, pose, flat_rays[:, seen], index[seen], depth[seen], focal, image[:, seen]
        )
    return image.reshape(rays.shape)


def _shade_hits(
    scene: Scene, time: float, pose: Tensor, rays: Tensor, index: Tensor, depth: Tensor, focal: float, sky: Tensor
) -> Tensor:
    points = pose[:3, 3:] + depth * rays
    surface = _surface(scene, time, points, index)
    things: list[Plane | Solid] = [*scene.planes, *scene.solids]
    materials = [thing.material for thing in things]
    tile = _vector([m.tile for m in materials])[index]
    texture = torch.tensor([m.texture for m in materials])[index]
    grazing = ((surface.normal * rays).sum(0).abs() / rays.norm(dim=0)).clamp(min=0.05).sqrt()
    footprint = depth / focal / tile / grazing
    grey = sample_texture(texture, surface.u / tile, surface.v / tile, footprint)
    dirt = torch.full_like(texture, texture_id("cloud"))
    stain = sample_texture(dirt, surface.u / tile / 5.3 + 0.37, surface.v / tile / 5.3, footprint / 5.3)
    dark = _vector([m.dark for m in materials]).T[:, index]
    light = _vector([m.light for m in materials]).T[:, index]
    color = (dark + (light - dark) * grey) * (0.85 + 0.25 * stain)
    color = color * _lit(scene, time, points, surface.normal, depth) * _vector(scene.light.tint)[:, None]
    if np.isfinite(scene.visibility):
        color = color + (sky - color) * (1 - torch.exp(-depth / scene.visibility))
    return color
