"""A room or a corridor: walls, furniture, clutter, sometimes people."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np

from ssmde_ros.data.synthetic.scene import (
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
    inside,
    person,
)

_WOOD = ("wood", "planks", "smooth", "wood")


def _turned(at: tuple[float, float], yaw: float, dx: float, dz: float) -> tuple[float, float]:
    return (at[0] + np.cos(yaw) * dx + np.sin(yaw) * dz, at[1] - np.sin(yaw) * dx + np.cos(yaw) * dz)


def clutter(
    palette: Palette, at: tuple[float, float], yaw: float, height: float, size: tuple[float, float]
) -> list[Solid]:
    """Boxes, cups and books on a surface of `size` (x, z) at `height` metres."""
    rng = palette.rng
    solids = []
    for _ in range(int(rng.integers(1, 9))):
        place = _turned(at, yaw, *(rng.uniform(-0.42, 0.42, 2) * size))
        material = palette.material(("smooth", "print", "blocks", "stripes", "cloud"), (0.08, 0.6), saturation=1.0)
        extent = rng.uniform(0.04, 0.35, 3)
        shape = ball if rng.random() < 0.3 else box
        solids.append(shape(place, height, tuple(extent.tolist()), material, float(rng.uniform(0, 3))))
    if rng.random() < 0.3:
        screen = palette.material(("smooth", "print", "blocks"), (0.3, 1.0))
        place = _turned(at, yaw, 0, 0.2 * size[1])
        solids.append(box(place, height + 0.05, (0.55, 0.35, 0.04), screen, yaw + float(rng.normal(0, 0.2))))
    return solids


def _legs(at: tuple[float, float], yaw: float, size: Vector, material: Material) -> list[Solid]:
    return [
        box(_turned(at, yaw, dx * size[0], dz * size[2]), 0.0, (0.05, size[1], 0.05), material, yaw)
        for dx in (-0.46, 0.46)
        for dz in (-0.46, 0.46)
    ]


def furniture(palette: Palette, at: tuple[float, float], yaw: float) -> list[Solid]:
    """One piece of furniture with what lies on it."""
    rng = palette.rng
    wood = palette.material(_WOOD, (0.5, 2.0), saturation=0.6, contrast=(0.1, 0.5))
    kind = rng.choice(["table", "cabinet", "shelf", "chair", "sofa", "counter", "tower"])
    if kind == "table":
        size = (float(rng.uniform(0.6, 1.8)), float(rng.uniform(0.45, 0.8)), float(rng.uniform(0.5, 1.0)))
        top = box(at, size[1], (size[0], 0.04, size[2]), wood, yaw)
        return [top, *_legs(at, yaw, size, wood), *clutter(palette, at, yaw, size[1] + 0.04, (size[0], size[2]))]
    if kind == "cabinet":
        size = (float(rng.uniform(0.4, 1.6)), float(rng.uniform(0.5, 1.2)), float(rng.uniform(0.35, 0.7)))
        solids = [box(at, 0.0, size, wood, yaw)]
        door = palette.material(_WOOD, (0.5, 2.0), contrast=(0.05, 0.3))
        for dx in np.arange(-size[0] / 2 + 0.2, size[0] / 2, 0.4):
            solids.append(box(_turned(at, yaw, float(dx), -size[2] / 2), 0.08, (0.36, size[1] - 0.14, 0.03), door, yaw))
        return solids + clutter(palette, at, yaw, size[1], (size[0], size[2]))
    if kind == "shelf":
        size = (float(rng.uniform(0.6, 1.4)), float(rng.uniform(1.2, 2.1)), 0.3)
        solids = [box(_turned(at, yaw, 0, 0.15), 0.0, (size[0], size[1], 0.03), wood, yaw)]
        for level in np.arange(0.05, size[1], 0.4):
            solids.append(box(at, float(level), (size[0], 0.03, size[2]), wood, yaw))
            solids += clutter(palette, at, yaw, float(level) + 0.03, (size[0], size[2] * 0.6))[:5]
        return solids
    if kind == "chair":
        cloth = palette.material(("smooth", "plaster", "checker"), (0.2, 1.0), saturation=0.9)
        seat = (0.45, 0.45, 0.45)
        back = box(_turned(at, yaw, 0, 0.2), 0.5, (0.44, 0.45, 0.05), cloth, yaw)
        return [box(at, 0.45, (0.45, 0.05, 0.45), cloth, yaw), back, *_legs(at, yaw, seat, wood)]
    if kind == "sofa":
        cloth = palette.material(("smooth", "plaster", "checker", "cloud"), (0.3, 1.5), saturation=0.8)
        width = float(rng.uniform(0.9, 2.2))
        arms = [box(_turned(at, yaw, s * width / 2, 0), 0.0, (0.2, 0.6, 0.85), cloth, yaw) for s in (-1, 1)]
        back = box(_turned(at, yaw, 0, 0.35), 0.0, (width, 0.85, 0.2), cloth, yaw)
        return [box(at, 0.0, (width, 0.42, 0.85), cloth, yaw), back, *arms]
    if kind == "counter":
        width = float(rng.uniform(1.2, 3.0))
        stone = palette.material(("marble", "smooth", "plaster"), (0.5, 2.0))
        upper = _turned(at, yaw, 0, 0.12)
        return [
            box(at, 0.0, (width, 0.86, 0.6), wood, yaw),
            box(at, 0.86, (width, 0.04, 0.64), stone, yaw),
            box(upper, 1.45, (width, 0.7, 0.35), wood, yaw),
            *clutter(palette, at, yaw, 0.9, (width, 0.5)),
        ]
    size = (float(rng.uniform(0.4, 0.9)), float(rng.uniform(1.2, 2.1)), float(rng.uniform(0.4, 0.8)))
    return [box(at, 0.0, size, palette.material(("smooth", "wood", "plaster"), (0.5, 2.0)), yaw)]


def _on_walls(palette: Palette, half: tuple[float, float], height: float) -> list[Solid]:
    """Pictures, windows and doors a few centimetres proud of the walls."""
    rng = palette.rng
    solids = []
    for wall in range(4):
        along = half[wall % 2]
        for _ in range(int(rng.integers(0, 4))):
            shift = float(rng.uniform(-0.8, 0.8) * along)
            width, tall = float(rng.uniform(0.3, 1.4)), float(rng.uniform(0.3, 1.2))
            bottom = float(rng.uniform(0.8, max(0.9, height - tall - 0.2)))
            material = palette.material(("print", "blocks", "smooth", "cloud", "windows"), (0.3, 1.5), saturation=0.8)
            if rng.random() < 0.3:
                bottom, width, tall = 0.0, 0.9, 2.0
                material = palette.material(("wood", "smooth"), (0.8, 2.0))
            distance = half[1 - wall % 2] - 0.02
            at = (shift, distance if wall < 2 else -distance)
            at = at if wall % 2 == 0 else (at[1], at[0])
            size = (width, tall, 0.05) if wall % 2 == 0 else (0.05, tall, width)
            solids.append(box(at, bottom, size, material))
    return solids


def _camera(rng: np.random.Generator, half: tuple[float, float], solids: list[Solid], height: float) -> CameraPath:
    """A hand-held camera that stands in nothing and looks across the room."""
    position: Vector = (0.0, -1.4, 0.0)
    for _ in range(30):
        x, z = rng.uniform(-0.85, 0.85, 2) * half
        position = (float(x), -float(rng.uniform(0.7, min(1.9, height - 0.4))), float(z))
        if not any(inside(position, solid, 0.45) for solid in solids):
            break
    target = rng.uniform(-0.6, 0.6, 2) * half
    yaw = float(np.arctan2(target[0] - position[0], target[1] - position[2]) + rng.normal(0, 0.5))
    speed = rng.normal(0, 0.15, 3)
    return CameraPath(
        start=position,
        velocity=(float(speed[0]), float(speed[1] * 0.3), float(speed[2])),
        yaw=yaw,
        pitch=float(rng.normal(0.25, 0.22)),
        roll=float(rng.normal(0, 0.07)),
        yaw_rate=float(rng.normal(0, 0.1)),
        sway=0.03,
        shake=0.02,
        phase=float(rng.uniform(0, 6.28)),
    )


@dataclass(frozen=True)
class _Shell:
    """Empty room: half its extent in x and z, its height, metres, and its six faces."""

    half: tuple[float, float]
    height: float
    planes: list[Plane]


def _shell(palette: Palette) -> _Shell:
    """Walls, floor and ceiling, of a corridor once in six."""
    rng = palette.rng
    half = (float(rng.uniform(1.5, 4.0)), float(rng.uniform(1.5, 4.5)))
    if rng.random() < 1 / 6:
        half = (float(rng.uniform(0.9, 1.5)), float(rng.uniform(5, 10)))
    height = float(rng.uniform(2.3, 3.2))
    wall = ("smooth", "plaster", "smooth", "cloud", "bricks", "stripes", "planks")
    floor = ("wood", "planks", "tiles", "checker", "smooth", "plaster", "marble")
    walls = palette.material(wall, (0.5, 3.0), 0.3, 0.95, 0.25, (0.03, 0.3))
    other = palette.material(wall, (0.5, 3.0), 0.3, 0.95, 0.25, (0.03, 0.3))
    planes = [
        Plane((0.0, 0.0, 0.0), (0.0, -1.0, 0.0), palette.material(floor, (0.6, 2.5), 0.15, 0.8, 0.4)),
        Plane((0.0, -height, 0.0), (0.0, 1.0, 0.0), palette.material(("smooth", "plaster", "tiles"), low=0.6)),
        Plane((-half[0], 0.0, 0.0), (1.0, 0.0, 0.0), walls),
        Plane((half[0], 0.0, 0.0), (-1.0, 0.0, 0.0), walls),
        Plane((0.0, 0.0, half[1]), (0.0, 0.0, -1.0), other),
        Plane((0.0, 0.0, -half[1]), (0.0, 0.0, 1.0), other),
    ]
    return _Shell(half, height, planes)


def _furnish(palette: Palette, half: tuple[float, float], count: int) -> list[list[Solid]]:
    """That many pieces, each with what lies on it."""
    rng = palette.rng
    pieces = []
    for _ in range(count):
        if rng.random() < 0.6:
            # Against a wall: what has a back has it to the wall.
            side = int(rng.integers(4))
            shift = float(rng.uniform(-0.85, 0.85)) * half[side % 2]
            near = half[1 - side % 2] - 0.32
            at = (shift, near if side < 2 else -near)
            at = at if side % 2 == 0 else (at[1], at[0])
            yaw = (0.0, np.pi / 2, np.pi, -np.pi / 2)[side]
        else:
            x, z = rng.uniform(-0.7, 0.7, 2) * half
            at, yaw = (float(x), float(z)), float(rng.uniform(0, 2 * np.pi))
        pieces.append(furniture(palette, at, float(yaw)))
    return pieces


def _lamp(rng: np.random.Generator, shell: _Shell) -> Light:
    half = shell.half
    lamp = (float(rng.uniform(-0.5, 0.5) * half[0]), -(shell.height - 0.15), float(rng.uniform(-0.5, 0.5) * half[1]))
    warm = float(rng.uniform(0.75, 1.05))
    return Light(lamp, True, float(rng.uniform(0.35, 0.75)), (1.0, 0.5 + 0.5 * warm, warm))


def room(rng: np.random.Generator) -> Scene:
    """Draw one indoor scene, a corridor once in six."""
    palette = Palette(rng)
    shell = _shell(palette)
    half = shell.half
    solids = _on_walls(palette, half, shell.height)
    solids += chain.from_iterable(_furnish(palette, half, int(rng.integers(3, 12))))
    path = _camera(rng, half, solids, shell.height)
    for _ in range(int(rng.integers(0, 3))):
        ahead, beside = rng.uniform(1.2, 3.0), rng.uniform(-0.8, 0.8)
        at = _turned((path.start[0], path.start[2]), path.yaw, float(beside), float(ahead))
        walk = rng.normal(0, 0.7, 2)
        if abs(at[0]) < half[0] - 0.3 and abs(at[1]) < half[1] - 0.3:
            solids += person(palette, at, (float(walk[0]), 0.0, float(walk[1])))
    return Scene(shell.planes, solids, _lamp(rng, shell), path)


def _worktop(palette: Palette, at: tuple[float, float], yaw: float, size: Vector) -> list[Solid]:
    """A counter or a table full of things; the solid that carries them comes first."""
    body = palette.material(_WOOD, (0.5, 2.0), saturation=0.6, contrast=(0.1, 0.5))
    if palette.rng.random() < 0.5:
        piece = [box(at, 0.0, size, body, yaw)]
    else:
        piece = [box(at, size[1] - 0.04, (size[0], 0.04, size[2]), body, yaw), *_legs(at, yaw, size, body)]
    for _ in range(int(palette.rng.integers(1, 4))):
        piece += clutter(palette, at, yaw, size[1], (size[0], size[2]))
    return piece


def table(rng: np.random.Generator) -> Scene:
    """Draw one indoor scene from close by: worktops full of things, half a metre to two metres from the camera."""
    palette = Palette(rng)
    shell = _shell(palette)
    half = shell.half
    on_walls = _on_walls(palette, half, shell.height)
    pieces = _furnish(palette, half, int(rng.integers(2, 9)))
    x, z = rng.uniform(-0.5, 0.5, 2) * half
    eye, yaw = (float(x), float(z)), float(rng.uniform(0, 2 * np.pi))
    top = 0.8
    for _ in range(int(rng.integers(1, 4))):
        size = (float(rng.uniform(0.7, 2.4)), float(rng.uniform(0.5, 1.0)), float(rng.uniform(0.5, 0.9)))
        ahead = float(rng.uniform(0.55, 2.0)) + size[2] / 2
        at = _turned(eye, yaw, float(rng.normal(0, 0.45)) * ahead, ahead)
        turn = yaw + float(rng.normal(0, 0.35))
        piece = _worktop(palette, at, turn, size)
        if abs(at[0]) < half[0] and abs(at[1]) < half[1] and not inside((eye[0], -size[1], eye[1]), piece[0], 0.3):
            pieces.append(piece)
            top = size[1]
    at = _turned(eye, yaw, float(rng.uniform(-0.8, 0.8)), float(rng.uniform(1.0, 2.5)))
    if rng.random() < 0.3 and abs(at[0]) < half[0] - 0.3 and abs(at[1]) < half[1] - 0.3:
        pieces.append(person(palette, at))
    height = min(top + float(rng.uniform(0.15, 0.9)), shell.height - 0.3)
    start = (eye[0], -height, eye[1])
    free = [piece for piece in pieces if not any(inside(start, solid, 0.3) for solid in piece)]
    solids = [*on_walls, *chain.from_iterable(free)]
    drift = rng.normal(0, 0.12, 3)
    path = CameraPath(
        start=start,
        velocity=(float(drift[0]), float(drift[1] * 0.3), float(drift[2])),
        yaw=yaw + float(rng.normal(0, 0.25)),
        pitch=float(rng.normal(0.32, 0.2)),
        roll=float(rng.normal(0, 0.07)),
        yaw_rate=float(rng.normal(0, 0.1)),
        sway=0.03,
        shake=0.02,
        phase=float(rng.uniform(0, 6.28)),
    )
    return Scene(shell.planes, solids, _lamp(rng, shell), path)
