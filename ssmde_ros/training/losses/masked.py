"""The mean that all terms share."""

from __future__ import annotations

from torch import Tensor

_FEWEST = 0.01  # share of an image; a handful of stray pixels must not speak for all of it


def masked_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean over the images of `sum(w v) / max(sum(w), 1 % of the pixels)`.

    Zero, and differentiable, where no pixel counts. Each image is normalised for itself, so that the gradient of a
    batch is the mean of the gradients of its images, in one process or in many.

    Args:
        values: `[B, ...]`; may be anything, even NaN, where the weight is zero.
        weight: `[B, ...]`, bool or at least 0; taken as constant.

    Raises:
        ValueError: shapes that differ.
    """
    if values.shape != weight.shape:
        raise ValueError(f"values {tuple(values.shape)} and weight {tuple(weight.shape)} must have one shape")
    weight = weight.detach().to(values.dtype).flatten(1)
    # Replaced before the product: 0 * NaN is NaN, and so is its gradient.
    kept = values.flatten(1).masked_fill(weight == 0, 0.0)
    fewest = max(_FEWEST * weight.shape[1], 1.0)
    return ((kept * weight).sum(1) / weight.sum(1).clamp(min=fewest)).mean()
