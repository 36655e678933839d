"""Depths and pseudo-depths for the tests of what compares them."""

import torch

from ssmde_ros.training.losses.pseudo import in_convention

F64 = torch.float64
SIZE = (12, 16)
K = torch.tensor([[[20.0, 0.0, 7.5], [0.0, 18.0, 5.5], [0.0, 0.0, 1.0]]], dtype=F64)
ALL = torch.ones(1, 1, *SIZE, dtype=torch.bool)
CONVENTIONS = ["depth", "inverse_depth"]


def maps(seed, batch=1, low=1.0, high=5.0):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(batch, 1, *SIZE, dtype=F64, generator=generator)


def plane(at_origin, along_u, along_v):
    """Depth of a plane, whose inverse is linear in the pixels."""
    v, u = torch.meshgrid(*(torch.arange(n, dtype=F64) for n in SIZE), indexing="ij")
    return (1 / (at_origin + along_u * u + along_v * v))[None, None]


def affine(depth, convention, scale=1.0, shift=0.0):
    return scale * in_convention(depth, convention) + shift


def box(rows=slice(3, 9), columns=slice(4, 12)):
    mask = torch.zeros_like(ALL)
    mask[..., rows, columns] = True
    return mask


def draw(seed):
    return torch.Generator().manual_seed(seed)
