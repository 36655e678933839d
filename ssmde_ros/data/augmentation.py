"""Photometric augmentation: what light, lens and sensor do to a picture, geometry untouched."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor


def augment_color(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One random look of the same scene.

    Args:
        image: `[H, W, 3]` RGB.
        rng: source of randomness; the same state gives the same picture.

    Returns:
        `[H, W, 3]` RGB, a new array.
    """
    x = image.astype(np.float32) / 255
    x = x ** float(np.exp(rng.uniform(-0.5, 0.5)))
    x = (x - 0.5) * rng.uniform(0.6, 1.4) + 0.5 + rng.uniform(-0.15, 0.15)
    x *= rng.uniform(0.85, 1.15, 3).astype(np.float32)
    grey = x.mean(2, keepdims=True)
    saturation = 0.0 if rng.random() < 0.12 else rng.uniform(0.3, 1.3)
    x = grey + (x - grey) * saturation
    if rng.random() < 0.4:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 1.3))
    if rng.random() < 0.2:
        # A short streak: the camera moved while the shutter was open.
        length = int(rng.integers(3, 8))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1 / length
        x = cv2.filter2D(x, -1, kernel if rng.random() < 0.7 else kernel.T)
    x = x + rng.normal(0, rng.uniform(0, 0.04), x.shape).astype(np.float32)
    result = (x.clip(0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.3:
        quality = int(rng.integers(30, 90))
        _, code = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, quality])
        result = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(result)


def borrow_look(image: NDArray[np.uint8], photograph: NDArray[np.uint8], reach: float) -> NDArray[np.uint8]:
    """The picture with the slow brightness and color variations of a photograph (Yang & Soatto 2020, FDA).

    The amplitudes of the lowest spatial frequencies come from the photograph; the phases, which say where
    things are, and all higher frequencies stay.

    Args:
        image: `[H, W, 3]` RGB.
        photograph: the same shape, of anything.
        reach: which frequencies count as low, as a share of the band; 0.005 to 0.05 is usual.

    Returns:
        `[H, W, 3]` RGB, a new array.

    Raises:
        ValueError: shapes differ.
    """
    if image.shape != photograph.shape:
        raise ValueError(f"the photograph is {photograph.shape}, the image {image.shape}")
    ours, theirs = (np.fft.rfft2(x.astype(np.float32), axes=(0, 1)) for x in (image, photograph))
    height, width = image.shape[:2]
    rows, columns = max(1, round(reach * height)), max(1, round(reach * width))
    # rfft2 has the frequencies 0.. in the first columns, and rows 0.. and -1.. at both ends.
    for low in (slice(0, rows), slice(height - rows + 1, height)):
        place = (low, slice(0, columns))
        ours[place] = np.abs(theirs[place]) * np.exp(1j * np.angle(ours[place]))
    return np.fft.irfft2(ours, s=(height, width), axes=(0, 1)).round().clip(0, 255).astype(np.uint8)


def jitter_colors(frames: Tensor, rng: np.random.Generator, strength: float = 0.2) -> Tensor:
    """The same change of brightness, contrast, saturation and gamma for all frames of one sample.

    Geometry stays, so that the two branches of self-distillation may see one scene under two lights.

    Args:
        frames: `[N, 3, H, W]` in [0, 1].
        strength: largest relative change; 0 changes nothing.

    Returns:
        `[N, 3, H, W]` in [0, 1].
    """
    if strength <= 0:
        return frames
    low, high = 1 - strength, 1 + strength
    brightness, contrast, saturation, gamma = rng.uniform(low, high, 4)
    grey = frames.mean(1, keepdim=True)
    x = (grey + (frames - grey) * saturation) * brightness
    # One mean for all: a frame's own would paint the same surface differently in each.
    middle = x.mean()
    return (middle + (x - middle) * contrast).clamp(1e-4, 1) ** gamma
