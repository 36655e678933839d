"""Edge-aware first-order smoothness of mean-normalised inverse depth (Godard et al. 2017, 2019)."""

from __future__ import annotations

from torch import Tensor


def smoothness_loss(depth: Tensor, image: Tensor) -> Tensor:
    """`mean |dx q| exp(-|dx I|) + mean |dy q| exp(-|dy I|)`, `q = (1/D) / mean(1/D)`.

    Normalising by the mean keeps the network from shrinking inverse depth to please this term.

    Args:
        depth: `[B, 1, H, W]`, metres, positive.
        image: `[B, 3, H, W]` in [0, 1], the same view.
    """
    if depth.shape[0] != image.shape[0] or depth.shape[2:] != image.shape[2:]:
        raise ValueError(f"depth {tuple(depth.shape)} and image {tuple(image.shape)} must show one view")
    inverse = 1 / depth
    q = inverse / inverse.mean((2, 3), keepdim=True)
    across = (q[..., 1:] - q[..., :-1]).abs()
    down = (q[..., 1:, :] - q[..., :-1, :]).abs()
    edge_across = (image[..., 1:] - image[..., :-1]).abs().mean(1, keepdim=True)
    edge_down = (image[..., 1:, :] - image[..., :-1, :]).abs().mean(1, keepdim=True)
    return (across * (-edge_across).exp()).mean() + (down * (-edge_down).exp()).mean()
