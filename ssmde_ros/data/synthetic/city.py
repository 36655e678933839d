"""City traffic between house fronts or trees: the dense places outdoors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ssmde_ros.data.synthetic.scene import (
    STILL,
    Palette,
    Plane,
    Scene,
    Solid,
    Vector,
    ball,
    box,
    person,
)
from ssmde_ros.data.synthetic.street import car, daylight, drive, hills, tree

LANE = 3.2  # metres

_PAINTS = (
    (0.05, 0.05, 0.06),
    (0.8, 0.8, 0.8),
    (0.45, 0.46, 0.48),
    (0.25, 0.26, 0.28),
    (0.08, 0.12, 0.25),
    (0.4, 0.06, 0.06),
)
"""What most cars wear: black, white, silver, grey, dark blue, dark red."""


def contact_shadow(
    palette: Palette, at: tuple[float, float], size: tuple[float, float], yaw: float, v: Vector
) -> Solid:
    """The dark patch under whatever stands on the ground: no light from the sky gets there, on any day."""
    dark = palette.tinted((0.05, 0.05, 0.055), "asphalt", 1.0, 0.5)
    return box(at, 0.0, (size[0], 0.012, size[1]), dark, yaw, v)


def _wheels(
    palette: Palette, at: tuple[float, float], width: float, along: list[float], size: float, yaw: float, v: Vector
) -> list[Solid]:
    """A wheel on either side at each distance from the middle."""
    tyre = palette.tinted((0.05, 0.05, 0.05), "smooth", 0.5)
    return [
        ball((at[0] + dx * width, at[1] + dz), 0.0, (0.35, size, size), tyre, yaw, v)
        for dx in (-0.42, 0.42)
        for dz in along
    ]


def lorry(palette: Palette, at: tuple[float, float], yaw: float, v: Vector) -> tuple[list[Solid], float, float]:
    """A cab and behind it a box, a tarpaulin, a tank or a low bed with a load; and width and length, metres."""
    rng = palette.rng
    ahead = float(np.sign(np.cos(yaw)))
    width, cab, load = float(rng.uniform(2.1, 2.55)), float(rng.uniform(1.6, 2.4)), float(rng.uniform(3.0, 12.0))
    length = cab + 0.4 + load
    skin = palette.material(("smooth", "cloud"), (1.0, 4.0), 0.1, 0.9, 0.9, (0.05, 0.3))
    dark = palette.tinted((0.06, 0.06, 0.07), "cloud", 1.5, 0.6)
    front = (at[0], at[1] + ahead * (length - cab) / 2)
    middle = (at[0], at[1] - ahead * (length - load) / 2)
    tall = float(rng.uniform(2.4, 3.7))
    solids = [
        box(front, 0.5, (width, tall - 0.5, cab), skin, yaw, v),
        box((front[0], front[1] + ahead * 0.03), 0.55 * tall, (0.9 * width, 0.3 * tall, cab), dark, yaw, v),
        box(at, 0.5, (0.9 * width, 0.45, length), dark, yaw, v),
    ]
    kind = rng.choice(["box", "tarpaulin", "tank", "bed"], p=[0.35, 0.25, 0.25, 0.15])
    if kind == "tank":
        metal = palette.material(("smooth", "cloud", "print"), (2.0, 6.0), 0.3, 0.9, 0.1, (0.05, 0.4))
        solids.append(ball(middle, 0.85, (1.05 * width, float(rng.uniform(1.8, 2.6)), 1.25 * load), metal, yaw, v))
    else:
        height = float(rng.uniform(0.5, 1.2)) if kind == "bed" else float(rng.uniform(1.6, 3.0))
        textures = ("cloud", "plaster") if kind == "tarpaulin" else ("smooth", "print", "stripes", "planks")
        cover = palette.material(textures, (1.5, 5.0), 0.1, 0.95, 1.0, (0.05, 0.4))
        solids.append(box(middle, 0.95, (width, height, load), cover, yaw, v))
    axles = [-ahead * (length / 2 - shift) for shift in (0.9, 2.1)] + [ahead * (length / 2 - 0.8)]
    return solids + _wheels(palette, at, width, axles, 1.0, yaw, v), width, length


def vehicle(palette: Palette, at: tuple[float, float], yaw: float, v: Vector) -> tuple[list[Solid], float]:
    """A car of `street.car` in a usual color, a lorry or a bus, on its shadow; and its length, metres."""
    rng = palette.rng
    choice = rng.random()
    if choice < 0.25:
        solids, width, length = lorry(palette, at, yaw, v)
    elif choice < 0.35:
        width, height, length = 2.5, float(rng.uniform(2.8, 3.9)), float(rng.uniform(7, 12))
        skin = palette.material(("smooth", "print", "cloud"), (2.0, 6.0), contrast=(0.05, 0.4))
        glass = palette.tinted((0.1, 0.11, 0.13), "cloud", 2.0, 0.6)
        solids = [box(at, 0.35, (width, height - 0.35, length), skin, yaw, v)]
        if rng.random() < 0.6:
            solids.append(box(at, 0.5 * height, (width + 0.03, 0.3 * height, length + 0.03), glass, yaw, v))
        solids += _wheels(palette, at, width, [-0.32 * length, 0.32 * length], 0.95, yaw, v)
    else:
        paint = None
        if rng.random() < 0.8:
            color = _PAINTS[int(rng.integers(len(_PAINTS)))]
            paint = palette.tinted(color, "cloud", float(rng.uniform(1, 4)), float(rng.uniform(0.05, 0.35)))
        solids = car(palette, at, yaw, v, paint)
        width, length = 2 * solids[0].half[0], 2 * solids[0].half[2]
    return [*solids, contact_shadow(palette, at, (1.05 * width, 1.02 * length), yaw, v)], length


def queue(
    palette: Palette, x: float, first: float, until: float, speed: float, gaps: tuple[float, float]
) -> list[Solid]:
    """Vehicles one behind the other along a lane.

    Args:
        x: middle of the lane, metres.
        first: where the tail of the first vehicle stands.
        speed: of them all, m/s; negative is oncoming.
        gaps: smallest and largest distance from bumper to bumper.
    """
    rng = palette.rng
    solids: list[Solid] = []
    velocity = (0.0, 0.0, speed) if speed else STILL
    z = first
    while z < until:
        yaw = (0.0 if speed >= 0 else np.pi) + float(rng.normal(0, 0.015))
        parts, length = vehicle(palette, (x + float(rng.normal(0, 0.12)), 0.0), yaw, velocity)
        solids += [
            replace(part, centre=(part.centre[0], part.centre[1], part.centre[2] + z + length / 2)) for part in parts
        ]
        z += length + float(rng.uniform(*gaps))
    return solids


def _fronts(palette: Palette, side: int, edge: float, length: float) -> list[Solid]:
    """House fronts wall to wall, with shop floors, awnings and balconies."""
    rng = palette.rng
    solids: list[Solid] = []
    z = -12.0
    while z < length:
        width, height = float(rng.uniform(6, 18)), float(rng.uniform(5, 25))
        x = side * (edge + float(rng.uniform(0, 1.5)) + 5)
        wall = palette.material(("windows", "bricks", "plaster", "windows", "cloud"), (3, 12), 0.15, 0.9, 0.2)
        solids.append(box((x, z + width / 2), 0.0, (10, height, width), wall))
        shop = palette.material(("print", "windows", "smooth", "blocks"), (2, 6), 0.05, 0.7, 0.5)
        solids.append(box((x, z + width / 2), 0.0, (10.1, float(rng.uniform(2.5, 3.5)), width * 0.97), shop))
        for _ in range(int(rng.integers(0, 4))):
            at = (x - side * 5, z + float(rng.uniform(0.1, 0.9)) * width)
            out = palette.material(("stripes", "smooth", "print"), (0.5, 2.0), saturation=0.8)
            extent = (float(rng.uniform(0.4, 1.6)), float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.6, 3)))
            solids.append(box(at, float(rng.uniform(2.3, height - 1)), extent, out))
        z += width
    return solids


def _trees(palette: Palette, side: int, edge: float, length: float) -> list[Solid]:
    """A row of trees whose crowns touch, with bushes or a wall behind."""
    rng = palette.rng
    solids: list[Solid] = []
    behind = palette.tinted((0.18, 0.27, 0.1), "leaves", 2.0, 0.8)
    solids.append(box((side * (edge + 9), length / 2), 0.0, (4, float(rng.uniform(1.5, 7)), length + 30), behind))
    spacing = float(rng.uniform(4, 9))
    for z in np.arange(-4, min(length, 90), spacing):
        at = (side * (edge + float(rng.uniform(0.5, 4))), float(z + rng.normal(0, 0.8)))
        solids += tree(palette, at)
        crown = palette.tinted((0.2, 0.33, 0.1), "leaves", float(rng.uniform(1, 3)), 0.85)
        size = (float(rng.uniform(4, 9)), float(rng.uniform(3, 7)), spacing * 1.4)
        solids.append(ball(at, float(rng.uniform(2.2, 4)), size, crown))
    return solids


def _pavement(palette: Palette, side: int, edge: float, width: float, length: float) -> list[Solid]:
    """The kerb with what stands on it: people, poles, bins, signs."""
    rng = palette.rng
    paving = palette.material(("tiles", "asphalt", "plaster", "gravel"), (1.0, 3.0), 0.25, 0.7, 0.1)
    solids = [box((side * (edge + width / 2), length / 2 - 20), 0.0, (width, 0.13, length + 40), paving)]
    for z in np.arange(rng.uniform(2, 8), min(length, 70), rng.uniform(3, 12)):
        at = (side * (edge + float(rng.uniform(0.3, width))), float(z))
        choice = rng.random()
        if choice < 0.4:
            solids += person(palette, at, (0.0, 0.0, float(rng.choice([-1.3, 0.0, 1.3]))))
        elif choice < 0.75:
            steel = palette.tinted((0.3, 0.3, 0.32), "smooth", 1.0)
            height = float(rng.uniform(2.2, 8))
            solids.append(box(at, 0.0, (0.14, height, 0.14), steel))
            sign = palette.material(("smooth", "print"), (0.4, 1.0), saturation=1.5)
            solids.append(box((at[0], at[1] - 0.09), min(height, 3.5) - 0.8, (0.7, 0.7, 0.04), sign))
        else:
            thing = palette.material(("smooth", "print", "planks"), (0.4, 1.5), saturation=0.9)
            solids.append(box(at, 0.1, (float(rng.uniform(0.4, 1.2)), float(rng.uniform(0.6, 2.2)), 0.6), thing))
    return solids


def _markings(palette: Palette, lanes: int, length: float) -> list[Solid]:
    """Dashes between the lanes, lines beside them."""
    paint = palette.tinted((0.85, 0.85, 0.82), "plaster", 1.0, 0.3)
    solids: list[Solid] = []
    for number in range(lanes + 1):
        x = (number - lanes / 2) * LANE
        if number in (0, lanes):
            solids.append(box((x, length / 2), 0.0, (0.14, 0.008, length), paint))
        else:
            dashes = np.arange(-2, min(length, 60), palette.rng.uniform(6, 12))
            solids += [box((x, float(z)), 0.0, (0.14, 0.008, 3.0), paint) for z in dashes]
    return solids


def _traffic(palette: Palette, lanes: int, own: int, length: float, speed: float) -> list[Solid]:
    """Vehicles in three of four lanes; those in the `own` one of the camera are ahead and not much slower."""
    rng = palette.rng
    solids: list[Solid] = []
    for number in range(lanes):
        if rng.random() < 0.75:
            first = float(rng.uniform(4, 20) if number == own else rng.uniform(-4, 14))
            gaps = (1.5, float(rng.uniform(4, 25)))
            pace = float(speed * rng.uniform(0.7, 1.3)) if number >= lanes // 2 else -float(rng.uniform(2, 12))
            if number == own:
                pace = max(pace, speed - 1)  # two seconds may not end in the tail of the one ahead
            solids += queue(palette, (number - (lanes - 1) / 2) * LANE, first, min(length, 75), pace, gaps)
    return solids


def city(rng: np.random.Generator) -> Scene:
    """City traffic: two to five lanes of vehicles. The camera drives along +z in one of them at 0.5 to 12 m/s."""
    palette = Palette(rng)
    lanes = int(rng.integers(2, 6))
    parked = rng.random() < 0.6
    edge = lanes * LANE / 2 + (float(rng.uniform(2.0, 2.6)) if parked else float(rng.uniform(0.2, 2.0)))
    own = int(rng.integers(lanes // 2, lanes))
    length, speed = float(rng.uniform(60, 160)), float(rng.uniform(0.5, 12))
    asphalt = palette.material(("asphalt", "plaster", "cloud"), (1.5, 6.0), 0.15, 0.5, 0.06, (0.1, 0.4))
    solids = _markings(palette, lanes, length) + _traffic(palette, lanes, own, length, speed)
    width = float(rng.uniform(1.5, 4.5))
    for side in (-1, 1):
        solids += _pavement(palette, side, edge, width, length)
        if parked and rng.random() < 0.8:
            solids += queue(palette, side * (edge - 1.0), float(rng.uniform(-3, 8)), min(length, 60), 0.0, (0.8, 5))
        solids += (_fronts if rng.random() < 0.6 else _trees)(palette, side, edge + width, length)
    solids += hills(palette, length)
    if rng.random() < 0.2:
        deck = palette.material(("plaster", "asphalt", "smooth"), (2, 6), 0.3, 0.7, 0.1)
        solids.append(box((0.0, float(rng.uniform(15, 60))), float(rng.uniform(4.6, 6)), (80, 1.2, 9), deck))
    start = ((own - (lanes - 1) / 2) * LANE + float(rng.normal(0, 0.2)), -float(rng.uniform(1.2, 2.0)), 0.0)
    path = drive(rng, start, speed, (0.05, 0.04, 0.012, 0.02))
    light, sky = daylight(rng)
    visibility = float(np.exp(rng.uniform(np.log(200), np.log(3000))))
    return Scene([Plane((0.0, 0.0, 0.0), (0.0, -1.0, 0.0), asphalt)], solids, light, path, sky, visibility)
