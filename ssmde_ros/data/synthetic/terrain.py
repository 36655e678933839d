"""Open terrain without a road, as a walking or rolling robot sees it."""

from __future__ import annotations

import numpy as np

from ssmde_ros.data.synthetic.scene import CameraPath, Palette, Plane, Scene, Solid, ball, box, clear_of, person
from ssmde_ros.data.synthetic.street import daylight, hills, tree

_SOILS = ((0.25, 0.36, 0.14), (0.4, 0.32, 0.22), (0.5, 0.48, 0.42), (0.3, 0.3, 0.2))
"""Grass, earth, gravel, heath."""


def _place(rng: np.random.Generator, nearest: float, reach: float) -> tuple[float, float]:
    """A spot in view, (x, z) metres; even in the logarithm of the distance: as much near as far."""
    z = float(np.exp(rng.uniform(np.log(nearest), np.log(reach))))
    return float(rng.uniform(-1, 1)) * (0.9 * z + 1.5), z


def _growth(palette: Palette, reach: float) -> list[Solid]:
    """Rocks, trees, bushes and people, even in the logarithm of their distance."""
    rng = palette.rng
    solids: list[Solid] = []
    for _ in range(int(rng.integers(0, 25))):
        size = rng.uniform(0.15, 1.6, 3)
        rock = palette.material(("plaster", "gravel", "cloud", "marble"), (0.4, 2.0), 0.15, 0.7, 0.15)
        at = _place(rng, 1.8, reach)
        solids.append(ball(at, -0.3 * float(size[1]), tuple(size.tolist()), rock, float(rng.uniform(0, 3))))
    for _ in range(int(rng.integers(0, 30) if rng.random() < 0.7 else 0)):
        solids += tree(palette, _place(rng, 2.5, reach))
    for _ in range(int(rng.integers(0, 15))):
        size = rng.uniform(0.4, 3.5, 3) * (1, 0.7, 1)
        bush = palette.tinted((0.2, 0.32, 0.1), "leaves", float(rng.uniform(0.6, 2)), 0.8)
        solids.append(ball(_place(rng, 2.5, reach), -0.2, tuple(size.tolist()), bush))
    for _ in range(int(rng.integers(0, 3))):
        walk = rng.normal(0, 1.0, 2)
        solids += person(palette, _place(rng, 2.5, reach), (float(walk[0]), 0.0, float(walk[1])))
    return solids


def _fence(palette: Palette) -> list[Solid]:
    """Two rails on posts across the view."""
    rng = palette.rng
    wood = palette.tinted((0.4, 0.32, 0.24), "wood", 1.0, 0.5)
    z, yaw = float(rng.uniform(12, 30)), float(rng.normal(0, 0.3))
    solids = [box((0.0, z), rail, (60, 0.09, 0.05), wood, yaw) for rail in (0.4, 0.9)]
    for x in np.arange(-30, 30, 2.2):
        solids.append(box((float(x * np.cos(yaw)), float(z - x * np.sin(yaw))), 0.0, (0.1, 1.1, 0.1), wood, yaw))
    return solids


def terrain(rng: np.random.Generator) -> Scene:
    """Grass, soil or gravel with mounds, rocks, bushes, trunks and fences; the camera goes forward at up to 4 m/s."""
    palette = Palette(rng)
    soil = _SOILS[int(rng.integers(len(_SOILS)))]
    texture = str(rng.choice(["leaves", "gravel", "plaster", "asphalt"]))
    ground = palette.tinted(soil, texture, float(np.exp(rng.uniform(np.log(0.5), np.log(4)))), 0.6)
    reach = float(rng.uniform(25, 80))
    solids: list[Solid] = []
    for _ in range(int(rng.integers(2, 12))):
        at, spread = _place(rng, 3.0, reach), float(rng.uniform(2, 14))
        height = float(rng.uniform(0.05, 0.22)) * spread
        mound = palette.tinted(soil, texture, float(rng.uniform(0.8, 4)), 0.6)
        solids.append(ball(at, -height / 2, (spread, height, spread * float(rng.uniform(0.6, 1.6))), mound))
    solids += _growth(palette, reach)
    if rng.random() < 0.35:
        solids += _fence(palette)
    solids += hills(palette, reach)
    path = CameraPath(
        start=(0.0, -float(rng.uniform(0.3, 1.9)), 0.0),
        velocity=(float(rng.normal(0, 0.3)), 0.0, float(rng.uniform(0.2, 4))),
        yaw=float(rng.normal(0, 0.1)),
        pitch=float(rng.normal(0.1, 0.1)),
        roll=float(rng.normal(0, 0.05)),
        yaw_rate=float(rng.normal(0, 0.1)),
        sway=0.03,
        shake=0.015,
        phase=float(rng.uniform(0, 6.28)),
    )
    light, sky = daylight(rng)
    plane = Plane((0.0, 0.0, 0.0), (0.0, -1.0, 0.0), ground)
    return Scene([plane], clear_of(path, solids, 0.4), light, path, sky, float(rng.uniform(200, 3000)))
