"""The lightweight pose network g: two frames and their lens to the motion between them.

It is built around what a motion leaves in a pair of images. Features of both frames are compared over a window, the
best match of each place is the flow, and flow divides in two: the field of a turning camera, or of any plane, is a
quadratic polynomial of the image coordinates (Longuet-Higgins & Prazdny 1980), and what remains is parallax. A small
head reads the motion from both. A stack of convolutions over the two frames (Zhou et al. 2017) has to find all this
by itself, and on a short recording of a camera in a hand it does not: see docs/method.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssmde_ros.geometry import rigid_motion, so3_exp

# Small outputs at the start: the first steps then see nearly the same view, and the photometric loss has a slope.
_OUTPUT_SCALE = 0.1
_PIXELS = 96 * 80  # frames are shrunk to about this many; motion is coarse, and the student's time is better spent
_STRIDE = 4  # of the features
_RADIUS = 5  # of the window, features; a fifth of the width of a frame


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Statistics of the one pair instead of the batch: two frames are all that a motion depends on."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(4, outputs), nn.ReLU(inplace=True)
    )


@dataclass(frozen=True)
class PoseReading:
    """A motion and what it was read from; maps have one place for each feature, a quarter of the shrunk frame.

    Attributes:
        motion: `T_{t->s}` `[B, 4, 4]`, see `PoseNet.forward`.
        flow: from target to source `[B, 2, h, w]`, in units of the image plane at depth 1.
        parallax: what no turning camera and no plane explains of the flow `[B, 2, h, w]`.
        weight: trust in the flow `[B, 1, h, w]`, in (0, 1).
    """

    motion: Tensor
    flow: Tensor
    parallax: Tensor
    weight: Tensor


class PoseNet(nn.Module):
    """Matching, the polynomial part of the flow, parallax, and a head; 0.2 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _convolution(3, 16, 2), _convolution(16, 24), _convolution(24, 48, 2), nn.Conv2d(48, 32, 3, 1, 1)
        )
        self.sharpness = nn.Parameter(torch.tensor(2.3))
        window = (2 * _RADIUS + 1) ** 2
        self.refine = nn.Sequential(
            nn.Conv2d(window + 3, 48, 1), nn.ReLU(inplace=True), _convolution(48, 32), nn.Conv2d(32, 3, 3, 1, 1)
        )
        self.parallax = nn.Sequential(_convolution(9, 32), _convolution(32, 64, 2), _convolution(64, 96))
        self.head = nn.Sequential(nn.Linear(24 + 96 * 6, 128), nn.ReLU(inplace=True), nn.Linear(128, 6))
        for last in (self.refine[-1], self.head[-1]):
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, target: Tensor, source: Tensor, intrinsics: Tensor) -> Tensor:
        """`T_{t->s}` from a pair of frames; swap them for the other direction.

        Args:
            target, source: `[B, 3, H, W]` RGB in [0, 1].
            intrinsics: K of both `[B, 3, 3]`, pixels.

        Returns:
            Motions `[B, 4, 4]`: axis-angle rotation (radians) and translation. No two images tell how long a
            translation is; here the unit is the depth whose inverse is the mean inverse depth of the target.
        """
        return self.read(target, source, intrinsics).motion

    def read(self, target: Tensor, source: Tensor, intrinsics: Tensor) -> PoseReading:
        """As `forward`, with what the motion was read from."""
        if target.shape != source.shape or target.ndim != 4 or target.shape[1] != 3:
            raise ValueError(f"need two [B, 3, H, W] frames, got {tuple(target.shape)} and {tuple(source.shape)}")
        pair, lens = _shrunk(torch.cat([target, source]), intrinsics)
        pair = (pair - pair.mean((2, 3), keepdim=True)) / (pair.std((1, 2, 3), keepdim=True) + 1e-3)
        flow, weight = self._flow(*self.features(pair).chunk(2))
        with torch.autocast(target.device.type, enabled=False):
            # The fit needs more than half precision.
            flow = flow.to(torch.promote_types(flow.dtype, torch.float32))
            weight, lens = weight.to(flow), lens.to(flow)
            basis = _quadratics(lens, flow.shape[2], flow.shape[3])
            flow = flow * _STRIDE / lens[:, (0, 1), (0, 1), None, None]
            polynomial, parallax = _fit(10 * flow, basis, weight)
        # What the polynomial leaves, in six parts of the image and on average along each of its terms.
        mean = (parallax.abs()[:, :, None] * (basis * weight)[:, None]).sum((3, 4)) / weight.sum((2, 3))[..., None]
        local = F.adaptive_avg_pool2d(self.parallax(torch.cat([parallax, weight, basis], 1)), (2, 3))
        read = [polynomial.flatten(1), mean.flatten(1), local.flatten(1)]
        vector = _OUTPUT_SCALE * self.head(torch.cat(read, 1)).to(flow)
        motion = rigid_motion(so3_exp(vector[:, :3]), vector[:, 3:])
        return PoseReading(motion, flow, parallax / 10, weight)

    def _flow(self, target: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """Flow `[B, 2, h, w]` in features, and how far it is to be trusted `[B, 1, h, w]`, in (0, 1)."""
        similarity = _correlation(F.normalize(target, dim=1), F.normalize(source, dim=1), _RADIUS)
        likely = (similarity * self.sharpness.exp()).softmax(1)
        along = torch.arange(-_RADIUS, _RADIUS + 1, device=likely.device, dtype=likely.dtype)
        down, right = torch.meshgrid(along, along, indexing="ij")
        coarse = torch.einsum("bkhw,ck->bchw", likely, torch.stack([right.flatten(), down.flatten()]))
        hints = [similarity, coarse / _RADIUS, likely.amax(1, keepdim=True)]
        refined = self.refine(torch.cat(hints, 1))
        return coarse + refined[:, :2], torch.sigmoid(refined[:, 2:])


def _shrunk(images: Tensor, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Images `[N, 3, H, W]` of about `_PIXELS`, sides multiples of 8, and K `[B, 3, 3]` for them."""
    height, width = images.shape[2:]
    scale = (_PIXELS / (height * width)) ** 0.5
    h, w = (max(4, round(side * scale / 8)) * 8 for side in (height, width))
    images = F.interpolate(images, (h, w), mode="bilinear", antialias=True, align_corners=False)
    ratio = intrinsics.new_tensor([[w / width], [h / height], [1.0]])
    lens = intrinsics * ratio
    lens[:, :2, 2] += 0.5 * ratio[:2, 0] - 0.5  # pixel centres lie at whole numbers
    return images, lens


def _correlation(target: Tensor, source: Tensor, radius: int) -> Tensor:
    """Products of each feature with those around it in the other frame `[B, (2r+1)^2, h, w]`, row by row.

    Args:
        target, source: `[B, C, h, w]`; beyond the source everything is 0.
    """
    batch, _, height, width = target.shape
    padded = F.pad(source, (radius,) * 4)
    products = torch.bmm(target.flatten(2).transpose(1, 2), padded.flatten(2))
    rows, columns = (torch.arange(n, device=target.device) for n in (height, width))
    side = torch.arange(2 * radius + 1, device=target.device)
    wide = width + 2 * radius
    corner = (rows[:, None] * wide + columns).reshape(-1, 1)
    window = (side[:, None] * wide + side).reshape(1, -1)
    near = products.gather(2, (corner + window).expand(batch, -1, -1))
    return near.transpose(1, 2).reshape(batch, -1, height, width)


def _quadratics(lens: Tensor, height: int, width: int) -> Tensor:
    """`1, x, y, x^2, xy, y^2` `[B, 6, h, w]` of the image plane at depth 1, at the centres of the features."""
    rows, columns = (
        torch.arange(n, device=lens.device, dtype=lens.dtype) * _STRIDE + (_STRIDE - 1) / 2 for n in (height, width)
    )
    x = ((columns - lens[:, 0, 2:]) / lens[:, 0, :1])[:, None, :].expand(-1, height, -1)
    y = ((rows - lens[:, 1, 2:]) / lens[:, 1, 1:2])[:, :, None].expand(-1, -1, width)
    return torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y], 1)


def _fit(flow: Tensor, basis: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted least squares of a flow over a basis.

    Args:
        flow: `[B, 2, h, w]`; basis: `[B, N, h, w]`; weight: `[B, 1, h, w]`.

    Returns:
        Coefficients `[B, N, 2]`, and what they leave of the flow `[B, 2, h, w]`.
    """
    rows, values = basis.flatten(2).transpose(1, 2), flow.flatten(2).transpose(1, 2)
    weighted = (rows * (weight.flatten(2).transpose(1, 2) + 1e-3)).transpose(1, 2)
    ridge = 1e-4 * torch.eye(rows.shape[2], device=flow.device, dtype=flow.dtype)
    coefficients = torch.linalg.solve(weighted @ rows + ridge, weighted @ values)
    return coefficients, flow - (rows @ coefficients).transpose(1, 2).reshape(flow.shape)
