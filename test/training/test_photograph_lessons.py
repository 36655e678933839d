import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssmde_ros.data.synthetic.dataset import SIZES
from ssmde_ros.training.photograph_lessons import LabelledPhotographs, agreed_depth, crop

PICTURE = np.random.default_rng(0).integers(0, 256, (150, 240, 3), dtype=np.uint8)


class Fixed:
    """A teacher whose depth depends on brightness alone, times a factor."""

    def __init__(self, factor, power=1.0):
        self.factor, self.power = factor, power

    def depth(self, image):
        return self.factor * (1 + image.mean(1, keepdim=True)) ** self.power


@given(st.integers(2, 700), st.integers(2, 700), st.integers(0, 9))
def test_crops_of_any_picture_have_the_shape_asked_for(width, height, seed):
    picture = np.broadcast_to(np.arange(width, dtype=np.uint8)[None, :, None], (height, width, 3))
    small = crop(picture, (32, 16), np.random.default_rng(seed))
    assert small.shape == (16, 32, 3)
    assert set(np.unique(small)) <= set(range(256))


def test_crops_are_not_squeezed():
    picture = np.zeros((300, 500, 3), np.uint8)
    picture[140:160, 240:260] = 255  # a square in the middle, which every crop of sixty per cent holds
    for seed in range(10):
        small = crop(picture, (320, 160), np.random.default_rng(seed))
        rows, columns = np.nonzero(small[..., 0] > 127)
        assert np.ptp(rows) == pytest.approx(np.ptp(columns), abs=2)


def test_teachers_that_differ_in_scale_alone_agree_in_shape():
    alone = agreed_depth([Fixed(1.0)], PICTURE).astype(np.float64)
    together = agreed_depth([Fixed(1.0), Fixed(4.0)], PICTURE).astype(np.float64)
    np.testing.assert_allclose(together, 2 * alone, rtol=2e-3)  # the geometric mean of the scales; half precision


def test_what_they_agree_on_lies_between_them():
    flat, steep = (agreed_depth([Fixed(1.0, power)], PICTURE).astype(np.float64) for power in (1.0, 3.0))
    both = agreed_depth([Fixed(1.0, 1.0), Fixed(1.0, 3.0)], PICTURE).astype(np.float64)
    np.testing.assert_allclose(both, np.sqrt(flat * steep), rtol=4e-3)


def test_the_mirrored_picture_has_the_mirrored_depth():
    class Sided(Fixed):
        def depth(self, image):
            return super().depth(image) + torch.linspace(0, 5, image.shape[-1])

    depth = agreed_depth([Sided(1.0)], PICTURE)
    mirrored = agreed_depth([Sided(1.0)], PICTURE[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(depth.astype(np.float64), mirrored.astype(np.float64), rtol=2e-3)


def test_items_are_augmented_crops_with_their_depth():
    lessons = LabelledPhotographs([PICTURE, PICTURE], [Fixed(1.0)], times=3)
    assert len(lessons) == 6
    assert [key.wide for key in lessons.keys] == [True, True, False, False, False, False]
    torch.manual_seed(0)
    for key, (image, depth) in zip(lessons.keys, (lessons[index] for index in range(6)), strict=True):
        width, height = SIZES[key.wide]
        assert image.shape == (3, height, width) and image.dtype == torch.uint8
        assert depth.shape == (1, height, width) and depth.dtype == torch.float32
        assert 1 <= depth.min() and depth.max() <= 2
    assert not torch.equal(lessons[3][0], lessons[3][0]), "anew each time"
