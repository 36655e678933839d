"""The mean that all terms share."""

from __future__ import annotations

from torch import Tensor


def masked_mean(values: Tensor, weight: Tensor) -> Tensor:
    """`sum(w v) / max(sum(w), 1)`: zero, and differentiable, where no pixel counts.

    Args:
        values: `[B, 1, H, W]`; may be anything, even NaN, where the weight is zero.
        weight: `[B, 1, H, W]`, bool or at least 0; taken as constant.

    Raises:
        ValueError: shapes that differ.
    """
    if values.shape != weight.shape:
        raise ValueError(f"values {tuple(values.shape)} and weight {tuple(weight.shape)} must have one shape")
    weight = weight.detach().to(values.dtype)
    # Replaced before the product: 0 * NaN is NaN, and so is its gradient.
    kept = values.masked_fill(weight == 0, 0.0)
    return (kept * weight).sum() / weight.sum().clamp(min=1.0)
