"""Short synthetic recordings with moving objects and full truth: what the ablation trains and scores on."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ssmde_ros.data.clip import Clip, ClipError
from ssmde_ros.data.pair_motion import POINTS, PairMotion
from ssmde_ros.data.synthetic.world import SyntheticFrame, SyntheticWorld, WorldConfig
from ssmde_ros.geometry import PinholeCamera

_MOST_TRIES = 50  # scenes per clip; more of them passed over is a threshold that cannot be met

HELD_OUT = 5_000_000  # seeds from here on are never trained on


@dataclass(frozen=True)
class DynamicWorld:
    """Which scenes to record.

    Attributes:
        width, height: image size, pixels.
        frames: per scene.
        interval: seconds between frames, by kind: a car needs less time to move than a person in a room.
        min_moving: smallest share of moving pixels, mean over a scene; stiller ones are passed over.
        min_travel: smallest travel of the camera between frames as a share of the median depth; below, no video
            could teach depth.
        noise: of the sensor, in units of full white.
    """

    width: int = 128
    height: int = 96
    frames: int = 6
    street_interval: float = 0.1
    room_interval: float = 0.25
    min_moving: float = 0.04
    min_travel: float = 0.01
    noise: float = 0.008

    def config(self, kind: Literal["street", "room"], seed: int) -> WorldConfig:
        """The scene and its camera."""
        rng = np.random.default_rng([seed, 5])
        focal = float(rng.uniform(0.7, 0.95)) * self.width
        camera = PinholeCamera(self.width, self.height, focal, focal, (self.width - 1) / 2, (self.height - 1) / 2)
        return WorldConfig(kind, seed, camera, noise=self.noise)


def dynamic_clips(world: DynamicWorld, count: int, first_seed: int, cache: Path) -> list[Clip]:
    """`count` recordings, streets and rooms in turn, drawn from `first_seed` on and kept on disk.

    Scenes without moving objects, or whose camera hardly travels, are passed over.

    Raises:
        ClipError: hardly any scene moves as much as is asked for.
    """
    clips: list[Clip] = []
    seed = first_seed
    while len(clips) < count:
        if seed - first_seed > _MOST_TRIES * count:
            raise ClipError(
                f"{seed - first_seed} scenes gave {len(clips)} of {count} clips; lower min_moving, min_travel"
            )
        kind: Literal["street", "room"] = "room" if len(clips) % 2 else "street"
        clip = _recorded(world, kind, seed, cache)
        seed += 1
        if clip is not None:
            clips.append(clip)
    return clips


def _recorded(world: DynamicWorld, kind: Literal["street", "room"], seed: int, cache: Path) -> Clip | None:
    name = f"{kind}-{seed:07d}-{world.width}x{world.height}-{_digest(world)}"
    path = cache / f"{name}.npz"
    config = world.config(kind, seed)
    if not path.is_file():
        _record(world, config, path)
    with np.load(path) as file:
        if "images" not in file:
            return None
        return Clip(
            name,
            torch.from_numpy(file["images"]),
            config.camera,
            (np.arange(world.frames) * 1e9 * _interval(world, kind)).astype(np.int64),
            [f"{name}/{i}" for i in range(world.frames)],
            poses=file["poses"],
            pose_known=np.ones(world.frames, bool),
            depth=torch.from_numpy(file["depth"]),
            moving=torch.from_numpy(file["moving"]),
        )


def _digest(world: DynamicWorld) -> str:
    return hashlib.sha256(repr(world).encode()).hexdigest()[:8]


def _interval(world: DynamicWorld, kind: str) -> float:
    return world.street_interval if kind == "street" else world.room_interval


def _record(world: DynamicWorld, config: WorldConfig, path: Path) -> None:
    """Draw one scene into a file; an empty one when it is of no use."""
    drawn = SyntheticWorld(config)
    first = drawn.render(0.0)
    frames = [first]
    if _useful(world, frames):
        frames += [drawn.render(i * _interval(world, config.kind)) for i in range(1, world.frames)]
    content: dict[str, Any] = {}
    if len(frames) > 1 and _useful(world, frames):
        content = {
            "images": torch.stack([(f.image * 255).round().to(torch.uint8) for f in frames]).numpy(),
            "depth": torch.stack([f.depth for f in frames]).numpy(),
            "moving": torch.stack([f.moving for f in frames]).numpy(),
            "poses": torch.stack([f.pose for f in frames]).double().numpy(),
        }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez(file, **content)
    partial.replace(path)


def _useful(world: DynamicWorld, frames: list[SyntheticFrame]) -> bool:
    moving = float(np.mean([float(f.moving.float().mean()) for f in frames]))
    if moving < world.min_moving / (2 if len(frames) == 1 else 1):
        return False
    if len(frames) == 1:
        return True
    # The sky is infinite: a median over all pixels could be, too.
    middle = float(frames[0].depth[frames[0].depth.isfinite()].median().nan_to_num())
    travel = np.median([float((b.pose - a.pose)[:3, 3].norm()) for a, b in pairwise(frames)])
    return bool(travel >= world.min_travel * middle)


def true_motions(clip: Clip) -> dict[tuple[int, int], PairMotion]:
    """Exact motion between all frames of a clip with poses, as perfect odometry would give it, without points."""
    nothing = torch.zeros(POINTS, 2), torch.zeros(POINTS)
    pairs = [(t, s) for t in range(len(clip)) for s in range(len(clip)) if t != s]
    found = {pair: clip.motion(*pair) for pair in pairs}
    return {p: PairMotion(torch.from_numpy(m).float(), True, *nothing) for p, m in found.items() if m is not None}
