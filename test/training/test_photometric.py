"""The photometric term: SSIM, minimum over the sources, auto-mask."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.training.losses import (
    photometric_error,
    photometric_loss,
    ssim,
)
from ssmde_ros.training.losses.photometric import stationary_regions
from test.training.maps_of_losses import ALL, F64, images


def test_an_image_is_like_itself_and_unlike_its_negative():
    a = images(1)
    torch.testing.assert_close(ssim(a, a), torch.ones_like(a))
    assert photometric_error(a, a).abs().max() < 1e-12
    assert ssim(a, 1 - a).mean() < 0


def test_two_grey_images_by_hand():
    a, b = torch.full((1, 1, 4, 4), 0.2, dtype=F64), torch.full((1, 1, 4, 4), 0.6, dtype=F64)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)  # flat: the contrast factor is one
    torch.testing.assert_close(ssim(a, b), torch.full_like(a, expected))
    torch.testing.assert_close(photometric_error(a, b), torch.full_like(a, 0.85 * (1 - expected) / 2 + 0.15 * 0.4))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), flat=st.booleans())
def test_the_error_stays_in_the_unit_interval_and_is_symmetric(seed, flat):
    a, b = images(seed), images(seed + 1)
    a = a.mean((2, 3), keepdim=True).expand_as(b).contiguous() if flat else a
    error = photometric_error(a, b)
    assert 0 <= error.min()
    assert error.max() <= 1
    torch.testing.assert_close(error, photometric_error(b, a))


def test_the_better_source_counts_pixel_by_pixel():
    target = images(2)
    left = torch.where(torch.arange(7) < 4, target, 1 - target)
    right = torch.where(torch.arange(7) >= 3, target, 1 - target)
    result = photometric_loss(target, [left, right], [1 - target] * 2, [ALL, ALL])
    alone = photometric_loss(target, [left], [1 - target], [ALL])
    assert result.error.max() < alone.error.max()
    assert result.loss < alone.loss


def test_invalid_pixels_count_nowhere_and_have_no_gradient():
    target, view = images(3), images(4).requires_grad_()
    seen = ALL.clone()
    seen[..., :3] = False
    result = photometric_loss(target, [view], [1 - target], [seen], auto_mask=False)
    result.loss.backward()
    assert not result.mask[..., :3].any()
    assert view.grad[..., :2].abs().sum() == 0, "column 2 is still in the window of column 3"
    assert torch.isfinite(view.grad).all()
    nothing = photometric_loss(target, [view], [1 - target], [~ALL])
    assert nothing.loss.item() == 0
    assert nothing.loss.requires_grad


def test_what_stands_still_is_masked():
    target = images(5)
    assert not photometric_loss(target, [images(6)], [target], [ALL]).mask.any(), "identity explains all"
    assert photometric_loss(target, [target], [images(6)], [ALL]).mask.all()
    assert photometric_loss(target, [images(6)], [target], [ALL], auto_mask=False).mask.all()


def test_less_weight_on_moving_pixels():
    target, view = images(7), images(8)
    weight = torch.ones(1, 1, 6, 7, dtype=F64)
    weight[..., 3:] = 0
    result = photometric_loss(target, [view], [1 - target], [ALL], weight, auto_mask=False)
    torch.testing.assert_close(result.loss, result.error[..., :3].mean())


def test_photometric_gradients_of_a_batch_are_those_of_its_images():
    target, view, source = (images(s, batch=2) for s in (30, 31, 32))
    seen = torch.cat([ALL, ALL.clone()])
    seen[1, ..., 3:] = False

    def gradient(of):
        start = view[of].clone().requires_grad_()
        loss = photometric_loss(target[of], [start], [source[of]], [seen[of]]).loss
        return torch.autograd.grad(loss, start)[0]

    alone = torch.cat([gradient(slice(i, i + 1)) for i in range(2)])
    torch.testing.assert_close(gradient(slice(None)), alone / 2)


def test_photometric_gradients():
    target, source = images(9, size=(4, 4)), images(10, size=(4, 4))
    view = images(11, size=(4, 4)).requires_grad_()
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    assert torch.autograd.gradcheck(
        lambda v: photometric_loss(target, [v], [source], [mask], auto_mask=False).loss, view
    )
    with pytest.raises(ValueError, match="as many views"):
        photometric_loss(target, [], [], [])
    with pytest.raises(ValueError, match=r"\[B, C, H, W\]"):
        ssim(target, source[0])


def keeping_pace(side=200, first=50, last=150):
    """A target, its only view and source: all but a square is synthesised well, the square stands still.

    Patches of the square look better in the view, by chance.
    """
    draw = torch.Generator().manual_seed(5)
    target, other = torch.rand(2, 1, 3, side, side, generator=draw).unbind(0)
    square = torch.zeros(1, 1, side, side, dtype=torch.bool)
    square[..., first:last, first:last] = True
    lucky = torch.zeros_like(square)
    for i in range(first + 10, last - 10, 20):
        lucky[..., i : i + 5, i : i + 5] = True
    return (
        target,
        torch.where(square & ~lucky, other, target),
        torch.where(square, target + 0.02 * other, other),
        square,
    )


def test_what_keeps_pace_is_left_out_as_a_whole():
    target, view, source, square = keeping_pace()
    seen = torch.ones_like(square)
    grown = torch.nn.functional.max_pool2d(square.float(), 13, 1, 6) > 0
    inner = torch.nn.functional.max_pool2d((~square).float(), 13, 1, 6) == 0
    pixelwise = photometric_loss(target, [view], [source], [seen])
    assert pixelwise.mask[inner].any() and not pixelwise.stationary.any()
    regions = photometric_loss(target, [view], [source], [seen], whole_regions=True)
    assert regions.stationary[inner].all() and not regions.mask[inner].any()
    assert not regions.stationary[~grown].any() and torch.equal(regions.mask[~grown], pixelwise.mask[~grown])
    unseen = photometric_loss(target, [view], [source], [~square], whole_regions=True)
    assert not unseen.stationary[square].any(), "what no source shows is not known to stand still"


def test_a_source_that_does_not_show_a_pixel_does_not_say_that_it_stands_still():
    draw = torch.Generator().manual_seed(7)
    target, *pictures = (0.5 + 0.01 * torch.randn(5, 1, 3, 192, 256, generator=draw)).unbind(0)
    everywhere = torch.ones(1, 1, 192, 256, dtype=torch.bool)
    right = everywhere.clone()
    right[..., :128] = False
    found = photometric_loss(target, pictures[:2], pictures[2:], [everywhere, right], whole_regions=True).stationary
    assert found.float().mean() < 0.15
    assert found[..., :120].float().mean() < 0.15, "61 % when two standing sources compete with one that is shown"


def test_where_nothing_can_be_told_nothing_is_stationary():
    moved = torch.rand(1, 1, 96, 128, generator=torch.Generator().manual_seed(6)) < 0.5
    seen = torch.ones_like(moved)
    assert stationary_regions(moved, seen).float().mean() < 0.1
    assert stationary_regions(~seen, seen).all() and not stationary_regions(seen, seen).any()
