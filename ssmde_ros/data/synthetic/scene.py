"""What a synthetic scene is made of: planes, boxes and ellipsoids with materials and velocities.

World frame: x right, y down, z forward, metres; the ground is y = 0, so things stand at negative y.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ssmde_ros.data.synthetic.textures import texture_id

Vector = tuple[float, float, float]
STILL: Vector = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Material:
    """Two RGB colors in [0, 1] mixed by a texture that repeats every `tile` metres."""

    dark: Vector
    light: Vector
    texture: int
    tile: float


@dataclass(frozen=True)
class Solid:
    """A box or an ellipsoid, turned by `yaw` about the vertical, moving at `velocity` (m/s).

    Attributes:
        half: half extents of the box or radii of the ellipsoid, metres, in its own axes.
        yaw: radians, positive turning z towards x.
    """

    kind: Literal["box", "ellipsoid"]
    centre: Vector
    half: Vector
    material: Material
    yaw: float = 0.0
    velocity: Vector = STILL

    @property
    def moving(self) -> bool:
        return self.velocity != STILL


@dataclass(frozen=True)
class Plane:
    """An infinite plane through `point` with unit `normal`."""

    point: Vector
    normal: Vector
    material: Material


@dataclass(frozen=True)
class Light:
    """Sun (direction towards it) or lamp (position), with the share of ambient light in [0, 1]."""

    vector: Vector
    is_lamp: bool
    ambient: float
    tint: Vector = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class CameraPath:
    """Smooth hand-held or driven motion: constant velocity plus small sinusoids.

    Attributes:
        start: position at time 0, metres.
        velocity: m/s, world frame.
        yaw, pitch, roll: radians at time 0; yaw turns z towards x, pitch looks down when positive.
        yaw_rate: rad/s.
        sway: amplitude of the positional sinusoid, metres.
        shake: amplitude of the rotational sinusoid, radians.
        phase: radians, so that no two scenes shake alike.
    """

    start: Vector
    velocity: Vector
    yaw: float
    pitch: float
    roll: float
    yaw_rate: float = 0.0
    sway: float = 0.0
    shake: float = 0.0
    phase: float = 0.0


@dataclass
class Scene:
    """Everything the ray caster needs. `sky` is None indoors."""

    planes: list[Plane]
    solids: list[Solid]
    light: Light
    path: CameraPath
    sky: tuple[Vector, Vector] | None = None
    visibility: float = float("inf")


class Palette:
    """Draws materials from a random generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def color(self, low: float = 0.05, high: float = 0.95, saturation: float = 0.35) -> Vector:
        grey = self.rng.uniform(low, high)
        tint = np.clip(grey * (1 + saturation * self.rng.normal(0, 0.6, 3)), 0.01, 0.99)
        return (float(tint[0]), float(tint[1]), float(tint[2]))

    def material(
        self,
        textures: tuple[str, ...],
        tile: tuple[float, float] = (0.5, 3.0),
        low: float = 0.05,
        high: float = 0.95,
        saturation: float = 0.35,
        contrast: tuple[float, float] = (0.1, 0.7),
    ) -> Material:
        light = self.color(low, high, saturation)
        # The dark color keeps the hue of the light one: two unrelated hues look like nothing on earth.
        factor = 1 - self.rng.uniform(*contrast)
        dark = (light[0] * factor, light[1] * factor, light[2] * factor)
        name = textures[int(self.rng.integers(len(textures)))]
        return Material(dark, light, texture_id(name), float(np.exp(self.rng.uniform(*np.log(tile)))))

    def tinted(self, color: Vector, texture: str, tile: float, contrast: float = 0.3) -> Material:
        factor = 1 - contrast
        jitter = self.rng.uniform(0.85, 1.15, 3)
        light = tuple(float(min(c * j, 0.99)) for c, j in zip(color, jitter, strict=True))
        light = (light[0], light[1], light[2])
        return Material((light[0] * factor, light[1] * factor, light[2] * factor), light, texture_id(texture), tile)


def box(
    centre: tuple[float, float], bottom: float, size: Vector, material: Material, yaw: float = 0.0, v: Vector = STILL
) -> Solid:
    """A box standing `bottom` metres above the ground at (x, z), of full size (x, height, z)."""
    y = -(bottom + size[1] / 2)
    half = (size[0] / 2, size[1] / 2, size[2] / 2)
    return Solid("box", (centre[0], y, centre[1]), half, material, yaw, v)


def ball(
    centre: tuple[float, float], bottom: float, size: Vector, material: Material, yaw: float = 0.0, v: Vector = STILL
) -> Solid:
    """An ellipsoid with the same arguments as `box`."""
    made = box(centre, bottom, size, material, yaw, v)
    return Solid("ellipsoid", made.centre, made.half, material, yaw, v)


def inside(point: Vector, solid: Solid, margin: float) -> bool:
    """Whether a point is within `margin` metres of the solid's upright bounding box."""
    dx, dz = point[0] - solid.centre[0], point[2] - solid.centre[2]
    cos, sin = np.cos(solid.yaw), np.sin(solid.yaw)
    local = (cos * dx - sin * dz, point[1] - solid.centre[1], sin * dx + cos * dz)
    return all(abs(c) < h + margin for c, h in zip(local, solid.half, strict=True))


def clear_of(path: CameraPath, solids: list[Solid], margin: float, seconds: float = 2.0) -> list[Solid]:
    """Without the solids that the camera would run into, taken as standing still."""
    points: list[Vector] = []
    for time in np.linspace(0, seconds, 9):
        x, y, z = (float(s + v * time) for s, v in zip(path.start, path.velocity, strict=True))
        points.append((x, y, z))
    return [solid for solid in solids if not any(inside(point, solid, margin) for point in points)]


def person(palette: Palette, at: tuple[float, float], v: Vector = STILL) -> list[Solid]:
    """A standing or walking human figure, 1.5 to 1.9 m tall."""
    rng = palette.rng
    height = float(rng.uniform(1.5, 1.9))
    skin = palette.tinted((0.75, 0.55, 0.45), "smooth", 1.0, 0.1)
    shirt = palette.material(("smooth", "stripes", "checker", "print", "cloud"), (0.2, 1.0), saturation=0.8)
    trousers = palette.material(("smooth", "plaster"), (0.3, 1.0), high=0.5)
    yaw = float(rng.uniform(0, np.pi))
    x, z = at
    stride = 0.12
    return [
        ball((x - stride, z), 0.0, (0.17, 0.5 * height, 0.2), trousers, yaw, v),
        ball((x + stride, z + 0.1), 0.0, (0.17, 0.5 * height, 0.2), trousers, yaw, v),
        ball((x, z), 0.42 * height, (0.46, 0.46 * height, 0.28), shirt, yaw, v),
        ball((x - 0.26, z), 0.42 * height, (0.12, 0.4 * height, 0.14), shirt, yaw, v),
        ball((x + 0.26, z), 0.42 * height, (0.12, 0.4 * height, 0.14), shirt, yaw, v),
        ball((x, z), 0.86 * height, (0.18, 0.15 * height, 0.2), skin, yaw, v),
    ]
