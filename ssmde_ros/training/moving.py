"""What moves by itself: where the picture goes elsewhere than depth and ego-motion would have it.

The teacher's depth takes away all motion that a static world explains; optical flow finds what is left. Left over
across the epipolar line, it is a moving object, whatever the depth. Left over along it, it may also be a wrong depth,
so it counts only beyond the error that a teacher is granted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssmde_ros.geometry import View, sample
from ssmde_ros.training.losses import photometric_error

REFERENCE_WIDTH = (
    320  # pixels wide: thresholds in pixels are for such an image, and smaller ones are enlarged for the flow
)
_BACK = 2.0  # pixels: largest forward-backward error of a flow that is believed, beside a tenth of the flow
_PARALLAX = 2.0  # pixels per unit of log depth, from which on a flow measures depth
_USUAL = 0.3  # quantile of the errors by which a teacher is judged; half of an image may move
_GRANTED = 2.6  # times that error: one deviation of a normal distribution
_FINEST = 0.7  # pixels: no flow is better, however small the image
_SEED, _GROW = 12.0, 3.0  # evidence that starts a region, and that continues it; in squared deviations
_FEWEST = 8  # pixels of a region that must be seeds
_INNER, _OUTER = 4, 8  # pixels: how far the outline may move inwards and outwards
_ROUNDS = 2  # of GrabCut
_LOST = 0.25  # an outline that keeps less of the region than this has followed something else
NUDGE = 1.1  # factor on the depth, for the derivative of the pixel by it


@dataclass(frozen=True)
class ResidualFlow:
    """Where the target is found again in a source, relative to where its depth puts it.

    Attributes:
        across: `[B, 1, H, W]`, pixels of the source across the epipolar line.
        along: `[B, 1, H, W]`, pixels along it.
        slope: `[B, 1, H, W]`, pixels that the point moves along it per unit of log depth.
        gain: `[B, 1, H, W]`, by how much the photometric error falls when the flow is followed.
        known: `[B, 1, H, W]` bool, whether the flow can be believed.
    """

    across: Tensor
    along: Tensor
    slope: Tensor
    gain: Tensor
    known: Tensor

    def depth_error(self) -> Tensor:
        """The teacher's usual log depth error by this flow `[B, 1, 1, 1]`: a quantile where there is parallax."""
        clear = self.known & (self.slope > _PARALLAX * self.slope.shape[3] / REFERENCE_WIDTH)
        errors = (self.along / self.slope).abs().masked_fill(~clear, torch.nan)
        return torch.nanquantile(errors.flatten(1), _USUAL, dim=1).nan_to_num(0).reshape(-1, 1, 1, 1)

    def deviation(self, pixels: float, depth: float | Tensor) -> Tensor:
        """Squared deviation from the static world `[B, 1, H, W]`.

        Args:
            pixels: standard deviation of the flow, pixels.
            depth: that of the log depth; one, or `[B, 1, 1, 1]`.
        """
        granted = pixels**2 + (depth * self.slope).square()
        return self.across.square() / pixels**2 + self.along.square() / granted


def residual_flow(target: Tensor, source: Tensor, view: View, nudged: View) -> ResidualFlow:
    """Optical flow from the target to the source as its depth warps it (DIS, Kroeger et al. 2016).

    Args:
        target, source: `[B, 3, H, W]` in [0, 1].
        view: of the target from the source.
        nudged: the same with all depths `NUDGE` times as large.
    """
    height, width = target.shape[2:]
    # Where the source shows nothing the target stands in: there is nothing to find, so nothing has moved.
    warped = torch.where(view.valid, sample(source, view), target)
    flow, back = _flow(target, warped), _flow(warped, target)
    rows, columns = torch.meshgrid(
        torch.arange(height, device=target.device), torch.arange(width, device=target.device), indexing="ij"
    )
    found = View(torch.stack([columns, rows]) + flow, view.computed_depth, view.in_view, view.in_front)
    pixels = sample(view.pixels, found)
    residual, direction = pixels - view.pixels, (nudged.pixels - view.pixels) / float(np.log(NUDGE))
    slope = _length(direction)
    unit = direction / slope.clamp(min=1e-6)
    along = (residual * unit).sum(1, keepdim=True)
    across = _length(residual - along * unit)
    there = View(pixels, view.computed_depth, view.in_view, view.in_front)
    gain = photometric_error(warped, target) - photometric_error(sample(source, there), target)
    error = _length(flow + sample(back, found))
    known = view.valid & (error < _BACK * width / REFERENCE_WIDTH + 0.1 * _length(flow))
    return ResidualFlow(across, along, slope, F.avg_pool2d(gain, 5, 1, 2), known)


def moving_regions(flows: Sequence[ResidualFlow], target: Tensor, pixels: float, depth: float) -> Tensor:
    """What moves, `[B, 1, H, W]` bool: regions of evidence in all sources, with the outline of the picture.

    Args:
        flows: of each source.
        target: `[B, 3, H, W]` in [0, 1].
        pixels, depth: see `ResidualFlow.deviation`; of a 320 pixels wide image, and the least that is granted.
    """
    pixels = max(pixels * target.shape[3] / REFERENCE_WIDTH, _FINEST)
    granted = torch.stack([f.depth_error() for f in flows]).mean(0).mul(_GRANTED).clamp(min=depth)
    evidence = torch.stack(
        [torch.where(f.known, f.deviation(pixels, granted).clamp(max=50) * (f.gain > 0), torch.nan) for f in flows]
    )
    mean = torch.nanmean(evidence, 0).nan_to_num(0)[:, 0].cpu().numpy()
    images = (target * 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    found = [torch.from_numpy(_outlined(_regions(m), i)) for m, i in zip(mean, images, strict=True)]
    return torch.stack(found)[:, None].to(target.device)


def _length(x: Tensor) -> Tensor:
    # Written out: torch's norm over the channels of an image takes ten times as long on a CPU.
    return x.square().sum(1, keepdim=True).sqrt()


def _flow(a: Tensor, b: Tensor) -> Tensor:
    """Optical flow `[B, 2, H, W]`, pixels (x, y), from a to b."""
    height, width = a.shape[2:]
    scale = max(1, round(REFERENCE_WIDTH / width))
    matcher = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def grey(image: Tensor) -> np.ndarray:
        values = (image.mean(0) * 255).byte().cpu().numpy()
        return cv2.resize(values, (scale * width, scale * height), interpolation=cv2.INTER_CUBIC)

    flows = []
    for one, two in zip(a, b, strict=True):
        large = matcher.calc(grey(one), grey(two), None)  # type: ignore[call-overload]
        small = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA) / scale
        flows.append(torch.from_numpy(small).permute(2, 0, 1))
    return torch.stack(flows).to(a)


def _scaled(pixels: int, width: int) -> int:
    return max(1, round(pixels * width / REFERENCE_WIDTH))


def _regions(evidence: np.ndarray) -> np.ndarray:
    """Connected regions `[H, W]` bool of evidence that hold enough seeds."""
    kernel = np.ones((2 * _scaled(2, evidence.shape[1]) + 1,) * 2, np.uint8)
    low = cv2.morphologyEx((evidence > _GROW).astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    count, labels = cv2.connectedComponents(low, connectivity=8)
    seeds = np.bincount(labels[evidence > _SEED], minlength=count)
    kept = seeds >= _FEWEST
    kept[0] = False
    return kept[labels]


def _outlined(regions: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Each region `[H, W]` bool drawn anew along the edges of the image (GrabCut, Rother et al. 2004).

    Flow is smooth over a few pixels and does not know where an object ends; colors do.
    """
    height, width = regions.shape
    inner, outer = _scaled(_INNER, width), _scaled(_OUTER, width)
    result = np.zeros_like(regions)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(regions.astype(np.uint8), connectivity=8)
    square = np.ones((3, 3), np.uint8)
    for label in range(1, count):
        left, top, wide, high, area = stats[label]
        margin = max(outer, int(0.4 * max(wide, high)))
        rows = slice(max(top - margin, 0), min(top + high + margin, height))
        columns = slice(max(left - margin, 0), min(left + wide + margin, width))
        region = (labels[rows, columns] == label).astype(np.uint8)
        core, ring = cv2.erode(region, square, iterations=inner), cv2.dilate(region, square, iterations=outer)
        drawn = region.astype(bool)
        if core.any() and not ring.all():
            hint = np.where(region > 0, cv2.GC_PR_FGD, np.where(ring > 0, cv2.GC_PR_BGD, cv2.GC_BGD)).astype(np.uint8)
            cv2.setRNGSeed(0)  # its color clusters start at random
            crop = np.ascontiguousarray(image[rows, columns])
            cv2.grabCut(
                crop,
                hint,
                None,
                np.zeros((1, 65)),
                np.zeros((1, 65)),
                _ROUNDS,
                cv2.GC_INIT_WITH_MASK,  # type: ignore[call-overload]
            )
            outlined = ((hint == cv2.GC_FGD) | (hint == cv2.GC_PR_FGD)) & (ring > 0)
            drawn = outlined if outlined.sum() > _LOST * area else drawn
        result[rows, columns] |= drawn
    return result
