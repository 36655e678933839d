"""A bank of grey textures with the statistics of real surfaces, sampled with mip levels.

Sixteen patterns are drawn once per process from a fixed seed. `1/f` noise (Field 1987: natural images
have power spectra near 1/f^2) stands for plaster, asphalt, soil and foliage; grids stand for what
people build.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SIZE = 256
LEVELS = 8

NAMES = (
    "smooth", "cloud", "plaster", "asphalt", "leaves", "gravel", "wood", "marble",
    "bricks", "tiles", "checker", "stripes", "windows", "planks", "blocks", "print",
)  # fmt: skip


def texture_id(name: str) -> int:
    """Index of a texture in the bank. Raises ValueError for an unknown name."""
    return NAMES.index(name)


def _noise(rng: np.random.Generator, exponent: float, stretch: float = 1.0) -> NDArray[np.float64]:
    """Tileable noise with power spectrum `f^-exponent`, normalised to [0, 1]."""
    fy, fx = np.meshgrid(np.fft.fftfreq(SIZE), np.fft.fftfreq(SIZE) * stretch, indexing="ij")
    radius = np.hypot(fx, fy)
    radius[0, 0] = np.inf
    spectrum = np.exp(2j * np.pi * rng.random((SIZE, SIZE))) * radius ** (-exponent / 2)
    field = np.real(np.fft.ifft2(spectrum))
    low, high = np.percentile(field, [1, 99])
    return np.clip((field - low) / (high - low), 0, 1)


def _grid(rng: np.random.Generator, rows: int, columns: int, gap: int, shift: bool) -> NDArray[np.float64]:
    """Cells of random grey with dark gaps, every other row shifted by half a cell when `shift`."""
    image = np.zeros((SIZE, SIZE))
    height, width = SIZE // rows, SIZE // columns
    for row in range(rows):
        line = np.zeros((height, SIZE))
        for column in range(columns):
            line[gap:, column * width + gap : (column + 1) * width] = rng.uniform(0.55, 1.0)
        offset = width // 2 if shift and row % 2 else 0
        image[row * height : (row + 1) * height] = np.roll(line, offset, axis=1)
    return image


def _windows(rng: np.random.Generator) -> NDArray[np.float64]:
    image = np.full((SIZE, SIZE), 0.85)
    for row in range(4):
        for column in range(4):
            image[row * 64 + 14 : row * 64 + 52, column * 64 + 16 : column * 64 + 48] = rng.uniform(0.0, 0.3)
            image[row * 64 + 32 : row * 64 + 34, column * 64 + 16 : column * 64 + 48] = 0.7
    return image


def _blocks(rng: np.random.Generator, count: int, largest: int) -> NDArray[np.float64]:
    """Random overlapping rectangles: dead leaves, posters, print."""
    image = np.full((SIZE, SIZE), 0.5)
    for _ in range(count):
        y, x = rng.integers(0, SIZE, 2)
        height, width = rng.integers(2, largest, 2)
        image[y : y + height, x : x + width] = rng.random()
    return image


@cache
def texture_pyramid() -> tuple[Tensor, Tensor]:
    """The bank as one flat buffer with mip levels.

    Returns:
        values `[N]` in [0, 1], level after level, each `[16, s, s]` with s = 256, 128, ... 2;
        offsets `[LEVELS]` of each level's first value.
    """
    rng = np.random.default_rng(20240624)
    rows, columns = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    grain = _noise(rng, 1.2)
    bank = [
        0.5 + 0.1 * (_noise(rng, 3.0) - 0.5),
        _noise(rng, 3.2),
        0.6 + 0.4 * (_noise(rng, 1.6) - 0.5),
        _noise(rng, 0.6),
        np.where(_noise(rng, 1.4) > 0.5, _noise(rng, 1.0), 0.15),
        np.where(_noise(rng, 1.8) > 0.45, _noise(rng, 0.8), 0.0),
        _noise(rng, 2.0, stretch=0.08),
        np.abs(2 * _noise(rng, 2.4) - 1),
        _grid(rng, 16, 8, 2, shift=True) * (0.8 + 0.2 * grain),
        _grid(rng, 4, 4, 3, shift=False) * (0.9 + 0.1 * grain),
        ((rows // 32 + columns // 32) % 2) * 0.9 + 0.1 * grain,
        ((columns // 16) % 2) * 0.8 + 0.2 * grain,
        _windows(rng) * (0.9 + 0.1 * grain),
        _grid(rng, 16, 1, 1, shift=False) * (0.6 + 0.4 * _noise(rng, 2.0, stretch=0.08)),
        _blocks(rng, 400, 70),
        _blocks(rng, 2500, 12),
    ]
    level = torch.from_numpy(np.stack(bank)).float()[:, None]
    values: list[Tensor] = []
    offsets: list[int] = []
    for _ in range(LEVELS):
        offsets.append(sum(v.numel() for v in values))
        values.append(level.flatten())
        level = torch.nn.functional.avg_pool2d(level, 2)
    return torch.cat(values), torch.tensor(offsets)


def sample_texture(index: Tensor, u: Tensor, v: Tensor, footprint: Tensor) -> Tensor:
    """Bilinear, mip-mapped look-up.

    Args:
        index: texture of each pixel `[P]`, int64.
        u, v: texture coordinates `[P]` in tiles (1 = one repetition).
        footprint: tiles covered by one pixel `[P]`; chooses the mip level, so that far surfaces do not alias.

    Returns:
        Grey values `[P]` in [0, 1].
    """
    values, offsets = (t.to(u.device) for t in texture_pyramid())
    level = torch.log2((footprint * SIZE).clamp(min=1.0)).round().long().clamp(max=LEVELS - 1)
    size = SIZE >> level
    base = offsets[level] + index * size * size
    x, y = u * size - 0.5, v * size - 0.5
    x0, y0 = x.floor(), y.floor()
    fx, fy = x - x0, y - y0
    columns = [x0.long() & (size - 1), (x0.long() + 1) & (size - 1)]
    lines = [(y0.long() & (size - 1)) * size, ((y0.long() + 1) & (size - 1)) * size]
    top = values[base + lines[0] + columns[0]] * (1 - fx) + values[base + lines[0] + columns[1]] * fx
    bottom = values[base + lines[1] + columns[0]] * (1 - fx) + values[base + lines[1] + columns[1]] * fx
    return top * (1 - fy) + bottom * fy
