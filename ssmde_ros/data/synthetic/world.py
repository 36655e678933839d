"""The public face of the synthetic world: a seed in, frames with exact ground truth out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from ssmde_ros.data.synthetic.city import city
from ssmde_ros.data.synthetic.render import cast, shade
from ssmde_ros.data.synthetic.room import room, table
from ssmde_ros.data.synthetic.scene import CameraPath, Scene
from ssmde_ros.data.synthetic.street import street
from ssmde_ros.data.synthetic.terrain import terrain
from ssmde_ros.geometry import PinholeCamera, pixel_rays

Kind = Literal["street", "room", "city", "terrain", "table"]
_DRAW: dict[str, Callable[[np.random.Generator], Scene]] = {
    "street": street, "room": room, "city": city, "terrain": terrain, "table": table,
}  # fmt: skip
_GAMMA = 1 / 1.8  # linear light to the brightness a camera would store


@dataclass(frozen=True)
class WorldConfig:
    """One scene seen by one camera.

    Attributes:
        kind: which scene to draw.
        seed: everything random follows from it.
        camera: intrinsics and image size.
        distortion: plumb_bob coefficients k1 k2 p1 p2 k3 of the lens; all zero is a perfect one.
        noise: standard deviation of the sensor noise, in units of full white.
        exposure_change: relative amplitude of a slow exposure drift, 0 for none.
        blur: Gaussian blur of the optics, pixels (standard deviation).

    Raises:
        ValueError: an unknown kind or a negative amount.
    """

    kind: Kind = "street"
    seed: int = 0
    camera: PinholeCamera = PinholeCamera(320, 256, 260.0, 260.0, 159.5, 127.5)  # noqa: RUF009, frozen
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)
    noise: float = 0.01
    exposure_change: float = 0.0
    blur: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in _DRAW:
            raise ValueError(f"kind must be {', '.join(_DRAW)}, got {self.kind!r}")
        if min(self.noise, self.exposure_change, self.blur) < 0:
            raise ValueError("noise, exposure_change and blur must not be negative")


@dataclass(frozen=True)
class SyntheticFrame:
    """A frame with its truth.

    Attributes:
        time: seconds since the start of the scene.
        image: `[3, H, W]` RGB in [0, 1].
        depth: `[1, H, W]` metres along the optical axis, infinity for the sky.
        pose: camera to world `[4, 4]`, metres, optical frame (x right, y down, z forward).
        intrinsics: K `[3, 3]`, pixels.
        moving: `[1, H, W]` bool, pixels on objects that move in the world.
    """

    time: float
    image: Tensor
    depth: Tensor
    pose: Tensor
    intrinsics: Tensor
    moving: Tensor


def camera_pose(path: CameraPath, time: float) -> Tensor:
    """Camera to world `[4, 4]` at `time` seconds."""
    wave = [math.sin(rate * time + path.phase * (i + 1)) for i, rate in enumerate((2.1, 2.9, 1.7, 3.7, 3.1, 2.3))]
    yaw = path.yaw + path.yaw_rate * time + path.shake * wave[3]
    pitch, roll = path.pitch + path.shake * wave[4], path.roll + path.shake * wave[5]
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    turn = torch.tensor([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    tilt = torch.tensor([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    bank = torch.tensor([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    pose = torch.eye(4)
    pose[:3, :3] = turn @ tilt @ bank
    sway = [path.sway * w for w in wave[:3]]
    pose[:3, 3] = torch.tensor(
        [s + v * time + w for s, v, w in zip(path.start, path.velocity, sway, strict=True)], dtype=torch.float32
    )
    return pose


class SyntheticWorld:
    """A scene drawn from a seed, rendered at any time; the same arguments always give the same frame."""

    def __init__(self, config: WorldConfig) -> None:
        self.config = config
        self.scene: Scene = _DRAW[config.kind](np.random.default_rng(config.seed))
        self._rays = self._camera_rays()

    def _camera_rays(self) -> Tensor:
        """Rays `[3, H, W]` in the optical frame, through the distorted lens where there is one."""
        camera = self.config.camera
        intrinsics = camera.matrix()
        if not any(self.config.distortion):
            return pixel_rays(intrinsics[None], camera.height, camera.width)[0]
        v, u = np.mgrid[: camera.height, : camera.width].astype(np.float64)
        pixels = np.stack([u, v], -1).reshape(-1, 1, 2)
        matrix, lens = intrinsics.double().numpy(), np.array(self.config.distortion)
        seen = (pixels[:, 0] - matrix[:2, 2]) / matrix[[0, 1], [0, 1]]
        ideal = seen.copy()
        # Fixed-point iteration on the forward model: exact, where cv2.undistortPoints stops after five rounds.
        for _ in range(40):
            points = np.column_stack([ideal, np.ones(len(ideal))])
            bent, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), np.eye(3), lens)
            ideal += seen - bent[:, 0]
        xy = torch.from_numpy(ideal.reshape(camera.height, camera.width, 2)).float().permute(2, 0, 1)
        return torch.cat([xy, torch.ones_like(xy[:1])])

    def render(self, time: float) -> SyntheticFrame:
        """The frame at `time` seconds."""
        camera = self.config.camera
        intrinsics = camera.matrix()
        pose = camera_pose(self.scene.path, time)
        rays = torch.einsum("ij,jhw->ihw", pose[:3, :3], self._rays)
        cull = None if any(self.config.distortion) else intrinsics
        hits = cast(self.scene, time, pose, rays, cull)
        image = self._develop(shade(self.scene, time, pose, rays, hits, camera.fx), time)
        moves = torch.tensor([False] * len(self.scene.planes) + [s.moving for s in self.scene.solids] + [False])
        # Index -1 (the sky) reads the last entry.
        return SyntheticFrame(time, image, hits.depth[None], pose, intrinsics, moves[hits.index][None])

    def _develop(self, image: Tensor, time: float) -> Tensor:
        """Optics and sensor: blur, exposure, gamma, noise."""
        if self.config.blur > 0:
            blurred = cv2.GaussianBlur(image.permute(1, 2, 0).numpy(), (0, 0), self.config.blur)
            image = torch.from_numpy(blurred).permute(2, 0, 1)
        gain = 1 + self.config.exposure_change * math.sin(1.3 * time + self.config.seed)
        image = (image * gain).clamp(0, 1) ** _GAMMA
        if self.config.noise > 0:
            generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + round(time * 1e6))
            image = image + self.config.noise * torch.randn(image.shape, generator=generator)
        return image.clamp(0, 1)
