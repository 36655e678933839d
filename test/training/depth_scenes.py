"""A little scene as image and depth, for the tests of what provides pseudo-depth."""

import numpy as np

IMAGE = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)


def scene(seed=0, size=(24, 32)):
    """A floor that recedes, a box on it, and sky."""
    rng = np.random.default_rng(seed)
    depth = np.repeat(np.linspace(20, 2, size[0], dtype=np.float32)[:, None], size[1], 1)
    depth[size[0] // 3 : size[0] // 2, 4:12] = rng.uniform(1, 5)
    depth[0] = np.inf
    return depth


def image_of(depth):
    return np.zeros((*depth.shape, 3), np.uint8)


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]
