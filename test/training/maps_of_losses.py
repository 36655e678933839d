"""Small float64 maps for the tests of the losses."""

import torch

F64 = torch.float64


def images(seed, channels=3, size=(6, 7), batch=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, *size, dtype=F64, generator=generator)


ALL = torch.ones(1, 1, 6, 7, dtype=torch.bool)
