"""The same moment seen by another camera: pictures, motions and depth stay consistent with each other."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Sample = dict[str, Tensor | None]


@dataclass(frozen=True)
class OtherCamera:
    """A camera of longer focal length, turned on the spot, and cropped.

    Attributes:
        scale: of the focal length, at least 1.
        place: of the crop in the enlarged picture, (u, v), each in [0, 1].
        turn: rotation `[3, 3]` from the old optical axes to the new ones.
    """

    scale: float
    place: tuple[float, float]
    turn: NDArray[np.float64]

    @staticmethod
    def drawn(rng: np.random.Generator, zoom: float, roll: float, tilt: float) -> OtherCamera:
        """At random.

        Args:
            zoom: largest enlargement less one.
            roll: largest turn about the optical axis, radians.
            tilt: largest turn up or down, and to the side, radians.
        """
        scale, angle = 1 + rng.uniform(0, zoom), rng.uniform(-roll, roll)
        place = rng.uniform(0, 1), rng.uniform(0, 1)
        aside = cv2.Rodrigues(np.array([rng.uniform(-tilt, tilt), rng.uniform(-tilt, tilt), 0.0]))[0]
        return OtherCamera(scale, place, np.asarray(cv2.Rodrigues(np.array([0.0, 0.0, angle]))[0] @ aside))

    def lens(self, intrinsics: Tensor, width: int, height: int) -> Tensor:
        """Its intrinsics `[3, 3]`."""
        closer = torch.diag(torch.tensor([self.scale, self.scale, 1.0]))
        # Pixel centres are at integers, so the border of a picture is at -0.5.
        for axis, length in ((0, width), (1, height)):
            closer[axis, 2] = (self.scale - 1) / 2 - self.place[axis] * (self.scale - 1) * length
        return closer @ intrinsics


def mirrored(sample: Sample) -> Sample:
    """Left and right exchanged, in pictures and geometry alike."""
    frames, intrinsics, motions = sample["frames"], sample["intrinsics"], sample["motions"]
    pixels, inverse = sample["pixels"], sample["inverse_depth"]
    assert frames is not None and intrinsics is not None and motions is not None
    assert pixels is not None and inverse is not None
    last = frames.shape[-1] - 1
    turned = intrinsics.clone()
    turned[0, 2] = last - intrinsics[0, 2]
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0]))
    flipped = pixels.clone()
    flipped[..., 0] = last - pixels[..., 0]
    maps = {key: m.flip(-1) for key in ("inside", "pseudo", "depth", "moving") if (m := sample[key]) is not None}
    return {
        **sample, **maps, "frames": frames.flip(-1), "intrinsics": turned,
        "motions": mirror @ motions @ mirror, "pixels": flipped,
    }  # fmt: skip


def recomposed(sample: Sample, camera: OtherCamera, pseudo_convention: str = "inverse_depth") -> Sample:
    """The sample as another camera would have seen it.

    Pixels move by `K' R K^-1`. A turned camera measures depth along another axis: depth changes by `(R K^-1 p)_z`.
    That is exact for depths; a map that is only affine in depth stays so but for a few percent of its shift.

    Args:
        sample: one sample, frames `[1+S, 3, H, W]`.
        pseudo_convention: what the pseudo-depth is affine in.
    """
    frames, intrinsics, motions, pixels = (sample[key] for key in ("frames", "intrinsics", "motions", "pixels"))
    assert frames is not None and intrinsics is not None and motions is not None and pixels is not None
    height, width = frames.shape[-2:]
    lens, turn = camera.lens(intrinsics, width, height), torch.from_numpy(camera.turn).float()
    unturn = turn @ torch.linalg.inv(intrinsics)
    rows, columns = torch.arange(height, dtype=torch.float32), torch.arange(width, dtype=torch.float32)
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    rays = torch.stack([u, v, torch.ones_like(u)], -1) @ torch.linalg.inv(lens).T @ turn
    ahead = rays[..., 2]  # of the old axis, per metre along the new one
    at = (rays @ intrinsics.T)[..., :2] / ahead[..., None]
    grid = at * torch.tensor([2 / (width - 1), 2 / (height - 1)]) - 1

    def resampled(maps: Tensor, mode: str) -> Tensor:
        many = maps.reshape(-1, 1, height, width).float()
        seen = F.grid_sample(many, grid.expand(len(many), -1, -1, -1), mode, "border", align_corners=True)
        return seen.reshape(maps.shape)

    inside = ((grid.abs() <= 1).all(-1) & (ahead > 0))[None]
    changed: Sample = {"inside": inside, "frames": resampled(frames, "bilinear")}
    # Nearest for the truth: between a wall and the sky there is no mean.
    if (depth := sample["depth"]) is not None:
        changed["depth"] = resampled(depth, "nearest") / ahead
    if (moving := sample["moving"]) is not None:
        changed["moving"] = resampled(moving, "nearest") > 0.5
    if (pseudo := sample["pseudo"]) is not None:
        seen = resampled(pseudo, "bilinear")
        changed["pseudo"] = seen / ahead if pseudo_convention == "depth" else seen * ahead
    rays = torch.cat([pixels, torch.ones_like(pixels[..., :1])], -1) @ unturn.T
    points = (rays / rays[..., 2:]) @ lens.T
    whole = torch.eye(4)
    whole[:3, :3] = turn
    return {
        **sample, **changed, "intrinsics": lens, "motions": whole @ motions @ whole.T, "pixels": points[..., :2],
        "inverse_depth": _kept(sample["inverse_depth"], points, rays[..., 2], height, width),
    }  # fmt: skip


def _kept(inverse_depth: Tensor | None, points: Tensor, farther: Tensor, height: int, width: int) -> Tensor:
    """Inverse depth `[S, P]` along the new axis, 0 for points that have left the picture."""
    assert inverse_depth is not None
    u, v = points[..., 0], points[..., 1]
    inside = (u >= 0) & (u <= width - 1) & (v >= 0) & (v <= height - 1) & (farther > 0)
    return torch.where(inside, inverse_depth / farther, 0.0)
