"""The mean that all loss terms share."""

import pytest
import torch

from ssmde_ros.training.losses import (
    masked_mean,
)
from test.training.maps_of_losses import ALL, F64, images


def test_an_empty_mask_gives_zero_with_a_gradient_path():
    values = images(0, 1).requires_grad_()
    loss = masked_mean(values, torch.zeros(1, 1, 6, 7, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0
    assert values.grad.abs().sum() == 0


def test_nan_outside_the_mask_reaches_neither_value_nor_gradient():
    values = images(0, 1)
    values[..., 0] = torch.nan
    values.requires_grad_()
    mask = ALL.clone()
    mask[..., 0] = False
    loss = masked_mean(2 * values, mask)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(values.grad).all()


def test_each_image_has_its_own_mean():
    values = images(40, 1, batch=2)
    mask = torch.cat([ALL, ALL.clone()])
    mask[1, ..., 2:] = False
    expected = (values[0].mean() + values[1][..., :2].mean()) / 2
    torch.testing.assert_close(masked_mean(values, mask), expected)
    mask[1] = False
    torch.testing.assert_close(masked_mean(values, mask), values[0].mean() / 2)  # of an empty image: 0


def test_a_few_stray_pixels_do_not_speak_for_an_image():
    values = torch.ones(1, 1, 20, 20, dtype=F64, requires_grad=True)
    for count, expected in ((0, 0.0), (1, 0.25), (2, 0.5), (4, 1.0), (5, 1.0), (400, 1.0)):
        mask = (torch.arange(400) < count).reshape(1, 1, 20, 20)
        assert masked_mean(values, mask).item() == pytest.approx(expected), "four pixels are one percent"
    (grad,) = torch.autograd.grad(masked_mean(values, torch.arange(400).reshape(1, 1, 20, 20) < 1), values)
    assert grad.max().item() == pytest.approx(1 / 4)
    faint = torch.full((1, 1, 20, 20), 1e-3, dtype=F64)
    assert masked_mean(values, faint).item() == pytest.approx(0.1), "weights count as what they weigh"


def test_the_gradient_of_a_batch_is_the_mean_of_those_of_its_images():
    values = images(41, 1, batch=3)
    weight = images(42, 1, batch=3)
    weight[1] = 0
    weight[2, ..., 1:] = 0

    def gradient(of):
        start = values[of].clone().requires_grad_()
        return torch.autograd.grad(masked_mean(start**2, weight[of]), start)[0]

    alone = torch.cat([gradient(slice(i, i + 1)) for i in range(3)])
    torch.testing.assert_close(gradient(slice(None)), alone / 3)
    assert alone[1].abs().sum() == 0


def test_the_weight_does_not_learn():
    values, weight = images(43, 1).requires_grad_(), images(44, 1).requires_grad_()
    masked_mean(values, weight).backward()
    assert weight.grad is None
    torch.testing.assert_close(values.grad, weight.detach() / weight.detach().sum())
    assert torch.autograd.gradcheck(lambda v: masked_mean(v, weight), values)


def test_weights_weigh():
    values = torch.tensor([1.0, 5.0]).reshape(1, 1, 1, 2)
    assert masked_mean(values, torch.tensor([3.0, 1.0]).reshape(1, 1, 1, 2)).item() == 2
    with pytest.raises(ValueError, match="one shape"):
        masked_mean(values, torch.ones(1, 1, 2, 2))
