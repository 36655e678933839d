"""A street: road, pavements, houses, trees, parked and driving cars, people."""

from __future__ import annotations

import numpy as np

from ssmde_ros.data.synthetic.scene import (
    STILL,
    CameraPath,
    Light,
    Material,
    Palette,
    Plane,
    Scene,
    Solid,
    Vector,
    ball,
    box,
    person,
)  # fmt: skip


def car(palette: Palette, at: tuple[float, float], yaw: float, v: Vector, paint: Material | None = None) -> list[Solid]:
    """A car, a van or a lorry standing at (x, z), its length along z before `yaw`; in any color without `paint`."""
    rng = palette.rng
    kind = rng.choice(3, p=[0.75, 0.18, 0.07])
    width, height, length = [(1.8, 1.45, 4.3), (1.9, 2.1, 5.0), (2.5, 3.5, 8.5)][kind]
    scale = rng.uniform(0.9, 1.1)
    width, height, length = width * scale, height * scale, length * scale
    paint = paint or palette.material(("smooth", "cloud"), (1.0, 4.0), contrast=(0.05, 0.3), saturation=0.9)
    glass = palette.tinted((0.12, 0.13, 0.15), "cloud", 1.5, 0.6)
    tyre = palette.tinted((0.06, 0.06, 0.06), "smooth", 0.5)
    light = palette.tinted((0.7, 0.08, 0.06), "smooth", 0.5)
    cos, sin = np.cos(yaw), np.sin(yaw)

    def place(dx: float, dz: float) -> tuple[float, float]:
        return (at[0] + cos * dx + sin * dz, at[1] - sin * dx + cos * dz)

    sill = 0.25
    if kind == 0:
        body = 0.52 * height
        parts = [
            box(at, sill, (width, body, length), paint, yaw, v),
            box(
                place(0, -0.04 * length), sill + body, (0.86 * width, height - sill - body, 0.5 * length), glass, yaw, v
            ),
            box(place(0, -0.04 * length), height - 0.06, (0.84 * width, 0.07, 0.44 * length), paint, yaw, v),
        ]
    else:
        parts = [
            box(at, sill, (width, height - sill, length), paint, yaw, v),
            box(place(0, 0), 0.55 * height, (0.9 * width, 0.25 * height, length + 0.04), glass, yaw, v),
        ]
    for dx in (-0.42, 0.42):
        parts.append(box(place(dx * width, -length / 2), 0.6, (0.25, 0.16, 0.06), light, yaw, v))
        for dz in (-0.32, 0.32):
            parts.append(ball(place(dx * width, dz * length), 0.0, (0.3, 0.66, 0.66), tyre, yaw, v))
    return parts


def tree(palette: Palette, at: tuple[float, float]) -> list[Solid]:
    """A trunk and two to four leafy ellipsoids."""
    rng = palette.rng
    height = float(rng.uniform(3, 9))
    bark = palette.tinted((0.3, 0.24, 0.18), "wood", 0.6, 0.6)
    leaf_color = (float(rng.uniform(0.1, 0.4)), float(rng.uniform(0.25, 0.5)), float(rng.uniform(0.05, 0.2)))
    parts = [box(at, 0.0, (0.3, 0.6 * height, 0.3), bark, float(rng.uniform(0, 3)))]
    for _ in range(int(rng.integers(2, 5))):
        leaves = palette.tinted(leaf_color, "leaves", float(rng.uniform(1.0, 3.0)), 0.85)
        size = rng.uniform(0.3, 0.6, 3) * height
        dx, dz = rng.uniform(-0.15, 0.15, 2) * height
        bottom = rng.uniform(0.35, 0.6) * height
        parts.append(ball((at[0] + dx, at[1] + dz), bottom, tuple(size.tolist()), leaves))
    return parts


def _side(palette: Palette, side: int, edge: float, length: float) -> list[Solid]:
    """Pavement, houses, trees, hedges and posts along one side of the road."""
    rng = palette.rng
    solids: list[Solid] = []
    pavement = float(rng.uniform(1.5, 4.0))
    paving = palette.material(("tiles", "asphalt", "plaster", "gravel"), (1.0, 3.0), 0.3, 0.7, 0.1)
    middle = side * (edge + pavement / 2)
    solids.append(box((middle, length / 2 - 20), 0.0, (pavement, 0.12, length + 40), paving))
    verge = palette.tinted((0.25, 0.36, 0.14), "leaves", 1.2, 0.6)
    solids.append(box((side * (edge + pavement + 30), length / 2 - 20), 0.0, (60, 0.1, length + 40), verge))
    built = rng.random() < 0.75
    z = -10.0
    while z < length:
        depth, setback = float(rng.uniform(6, 22)), float(rng.uniform(0, 6)) + (0 if built else 8)
        if rng.random() < (0.85 if built else 0.25):
            wall = palette.material(("windows", "bricks", "plaster", "windows"), (4, 14), 0.25, 0.9, 0.25)
            height = float(rng.uniform(3, 9) if rng.random() < 0.6 else rng.uniform(9, 28))
            x = side * (edge + pavement + setback + 5)
            solids.append(box((x, z + depth / 2), 0.0, (10, height, depth * 0.95), wall))
            roof = palette.tinted((0.4, 0.25, 0.2), "bricks", 2.0, 0.4)
            solids.append(box((x, z + depth / 2), height, (10.6, float(rng.uniform(0.2, 1.5)), depth), roof))
        else:
            leaf = palette.tinted((0.2, 0.33, 0.12), "leaves", 1.5, 0.8)
            hedge = (float(rng.uniform(1, 6)), float(rng.uniform(0.8, 4.0)), depth)
            solids.append(ball((side * (edge + pavement + setback + 4), z + depth / 2), -0.3, hedge, leaf))
        z += depth + float(rng.uniform(0, 3) if built else rng.uniform(0, 15))
    for z in np.arange(rng.uniform(0, 10), min(length, 90), rng.uniform(7, 25)):
        at = (side * (edge + float(rng.uniform(0.4, pavement + 0.5))), float(z + rng.uniform(-3, 3)))
        choice = rng.random()
        if choice < 0.45:
            solids += tree(palette, at)
        elif choice < 0.8:
            steel = palette.tinted((0.4, 0.4, 0.42), "smooth", 1.0)
            height = float(rng.uniform(2.2, 7))
            solids.append(box(at, 0.0, (0.12, height, 0.12), steel))
            sign = palette.material(("smooth", "print"), (0.4, 1.0), saturation=1.5)
            solids.append(box((at[0], at[1] - 0.08), height - 0.7, (0.65, 0.65, 0.04), sign))
        else:
            solids += person(palette, at, (0.0, 0.0, float(rng.choice([-1.2, 0.0, 1.3]))))
    return solids


def _traffic(palette: Palette, edge: float, length: float, speed: float, lane: float) -> list[Solid]:
    rng = palette.rng
    solids: list[Solid] = []
    for side in (-1, 1):
        if rng.random() < 0.6:
            z = float(rng.uniform(3, 12))
            while z < min(length, 80):
                solids += car(palette, (side * (edge - 1.0), z), float(rng.normal(0, 0.03)), STILL)
                z += float(rng.uniform(5.5, 16))
    z = float(rng.uniform(7, 25))
    for _ in range(int(rng.integers(0, 5))):
        same_way = rng.random() < 0.6
        x = lane + float(rng.normal(0, 0.2)) if same_way else -lane
        velocity = (0.0, 0.0, float(speed * rng.uniform(0.5, 1.4) if same_way else -rng.uniform(4, 14)))
        solids += car(palette, (x, z), 0.0 if same_way else np.pi, velocity)
        z += float(rng.uniform(6, 25))
    if rng.random() < 0.4:
        across = (float(rng.choice([-1.4, 1.4])), 0.0, 0.0)
        solids += person(palette, (float(rng.uniform(-edge, edge)), float(rng.uniform(5, 20))), across)
    return solids


def hills(palette: Palette, behind: float) -> list[Solid]:
    """Two to five wooded hills that close the view, `behind` metres away and farther."""
    rng = palette.rng
    solids = []
    for _ in range(int(rng.integers(2, 6))):
        hill = palette.tinted((0.22, 0.3, 0.2), "leaves", float(rng.uniform(5, 15)), 0.6)
        size = (float(rng.uniform(30, 150)), float(rng.uniform(8, 40)), float(rng.uniform(20, 60)))
        at = (float(rng.uniform(-120, 120)), behind + float(rng.uniform(30, 150)))
        solids.append(ball(at, -size[1] / 2, size, hill))
    return solids


def daylight(rng: np.random.Generator) -> tuple[Light, tuple[Vector, Vector]]:
    """Sun or clouds: the light, and the sky's colors at the horizon and overhead."""
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 1.3)
    sun = (
        float(np.cos(azimuth) * np.cos(elevation)),
        float(-np.sin(elevation)),
        float(np.sin(azimuth) * np.cos(elevation)),
    )
    overcast = rng.random() < 0.35
    bright = float(rng.uniform(0.6, 1.0))
    zenith = (0.75 * bright, 0.77 * bright, 0.8 * bright) if overcast else (0.35 * bright, 0.55 * bright, 0.95 * bright)
    horizon = (0.9 * bright, 0.9 * bright, 0.9 * bright)
    return Light(sun, False, 0.85 if overcast else float(rng.uniform(0.3, 0.55))), (horizon, zenith)


def drive(
    rng: np.random.Generator, start: Vector, speed: float, spread: tuple[float, float, float, float]
) -> CameraPath:
    """A camera in a car along +z.

    Args:
        start: metres.
        speed: m/s.
        spread: standard deviations of yaw, pitch and roll, radians, and of the yaw rate, rad/s.
    """
    yaw, pitch, roll, yaw_rate = spread
    return CameraPath(
        start=start,
        velocity=(0.0, 0.0, speed),
        yaw=float(rng.normal(0, yaw)),
        pitch=float(rng.normal(0.02, pitch)),
        roll=float(rng.normal(0, roll)),
        yaw_rate=float(rng.normal(0, yaw_rate)),
        sway=0.02,
        shake=0.004,
        phase=float(rng.uniform(0, 6.28)),
    )


def street(rng: np.random.Generator) -> Scene:
    """Draw one street scene. The camera drives along +z at 1 to 15 m/s."""
    palette = Palette(rng)
    edge, length = float(rng.uniform(3, 8)), float(rng.uniform(50, 160))
    speed, lane = float(rng.uniform(1, 15)), float(rng.uniform(0.3, 0.5)) * edge
    asphalt = palette.material(("asphalt", "gravel", "plaster"), (1.0, 4.0), 0.2, 0.55, 0.08, (0.15, 0.5))
    solids: list[Solid] = []
    paint = palette.tinted((0.85, 0.85, 0.82), "plaster", 1.0, 0.2)
    dash, period = float(rng.uniform(1.5, 4)), float(rng.uniform(5, 10))
    if rng.random() < 0.8:
        for z in np.arange(-2, min(length, 70), period):
            solids.append(box((0.0, float(z)), 0.0, (0.14, 0.008, dash), paint))
        for side in (-1, 1):
            solids.append(box((side * (edge - 0.2), length / 2), 0.0, (0.14, 0.008, length), paint))
    for side in (-1, 1):
        solids += _side(palette, side, edge, length)
    solids += _traffic(palette, edge, length, speed, lane)
    solids += hills(palette, length)
    height = float(rng.uniform(1.0, 2.2))
    path = drive(rng, (lane + float(rng.normal(0, 0.3)), -height, 0.0), speed, (0.08, 0.05, 0.015, 0.03))
    light, sky = daylight(rng)
    ground = Plane((0.0, 0.0, 0.0), (0.0, -1.0, 0.0), asphalt)
    visibility = float(np.exp(rng.uniform(np.log(150), np.log(3000))))
    return Scene([ground], solids, light, path, sky, visibility)
