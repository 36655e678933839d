"""Sparse points, and the terms of the relatives."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ssmde_ros.training.losses import (
    filtered_consistency_loss,
    resolution_loss,
    scale_from_points,
    sparse_loss,
    successive_scale_loss,
)
from ssmde_ros.training.losses.sparse import depth_at, lies_in
from test.training.pseudo_maps import ALL, F64, SIZE, box, draw, maps, plane

PIXELS = torch.tensor([[[0.0, 0.0], [15.0, 11.0], [3.25, 7.5], [14.9, 0.1], [8.0, 5.0]]], dtype=F64)


def inverse_of_plane(pixels):
    return 0.2 + 0.01 * pixels[..., 0] + 0.02 * pixels[..., 1]


def test_inverse_depth_is_read_exactly_from_a_plane():
    torch.testing.assert_close(depth_at(plane(0.2, 0.01, 0.02), PIXELS), inverse_of_plane(PIXELS))
    outside = torch.tensor([[[-5.0, -5.0], [99.0, 99.0]]], dtype=F64)
    torch.testing.assert_close(
        depth_at(plane(0.2, 0.01, 0.02), outside), inverse_of_plane(torch.tensor([[[0.0, 0.0], [15.0, 11.0]]]).to(F64))
    )
    depth = maps(27).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: depth_at(d, PIXELS), depth)


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-3, 1e3), outliers=st.integers(0, 20), seed=st.integers(0, 10**6))
def test_the_scale_is_found_among_outliers(scale, outliers, seed):
    pixels = torch.rand(1, 50, 2, dtype=F64, generator=draw(seed)) * torch.tensor([15.0, 11.0], dtype=F64)
    # A translation of `scale` metres was called one unit: depth in units is smaller, its inverse larger.
    inverse = scale * inverse_of_plane(pixels)
    inverse[:, :outliers] *= 100
    padded = torch.cat([pixels, torch.zeros(1, 30, 2, dtype=F64)], 1)
    found = scale_from_points(plane(0.2, 0.01, 0.02), padded, F.pad(inverse, (0, 30)))
    torch.testing.assert_close(found, torch.tensor([scale], dtype=F64))
    right = sparse_loss(plane(0.2, 0.01, 0.02), pixels[:, outliers:], inverse[:, outliers:], found)
    assert right < 1e-9


def test_a_place_lies_in_the_mask_of_its_nearest_pixel():
    mask = torch.zeros(2, 1, 12, 16, dtype=torch.bool)
    mask[0, 0, 8, 3] = mask[1, 0, 11, 15] = True
    found = lies_in(mask, PIXELS.expand(2, -1, -1))
    assert found.tolist() == [[False, False, True, False, False], [False, True, False, False, False]]
    assert lies_in(mask[1:], torch.tensor([[[99.0, 99.0], [-9.0, 4.0]]])).tolist() == [[True, False]], "at the border"


def test_few_points_say_as_much_as_they_are():
    depth, inverse, one = maps(27), inverse_of_plane(PIXELS) * 1.3, torch.ones(1, dtype=F64)
    alone = sparse_loss(depth, PIXELS, inverse, one)
    padded = sparse_loss(depth, F.pad(PIXELS, (0, 0, 0, 15)), F.pad(inverse, (0, 15)), one)
    torch.testing.assert_close(padded, alone / 4)


def test_points_on_what_moves_teach_nothing():
    depth, one = plane(0.2, 0.01, 0.02).requires_grad_(), torch.ones(1, dtype=F64)
    inverse = inverse_of_plane(PIXELS)
    inverse[0, 2] *= 3  # the tanker's
    moving = torch.zeros(1, 1, 12, 16, dtype=torch.bool)
    moving[0, 0, 6:10, 2:6] = True
    assert sparse_loss(depth, PIXELS, inverse, one) > 0.1
    loss = sparse_loss(depth, PIXELS, inverse, one, moving)
    assert loss < 1e-9
    everything = sparse_loss(depth, PIXELS, inverse, one, torch.ones_like(moving))
    everything.backward()
    assert everything.item() == 0
    assert depth.grad.abs().sum() == 0


def test_without_points_the_scale_falls_back_and_nothing_is_lost():
    nothing = torch.zeros(2, 5, dtype=F64)
    nothing[1] = inverse_of_plane(PIXELS[0])
    depth = plane(0.2, 0.01, 0.02).repeat(2, 1, 1, 1).requires_grad_()
    scale = scale_from_points(depth, PIXELS.expand(2, -1, -1), nothing, fallback=7.0)
    torch.testing.assert_close(scale, torch.tensor([7.0, 1.0], dtype=F64))
    assert not scale.requires_grad
    loss = sparse_loss(depth[:1], PIXELS, nothing[:1], scale[:1])
    loss.backward()
    assert loss.item() == 0
    assert depth.grad.abs().sum() == 0


def test_the_sparse_term_by_hand():
    depth = torch.full((1, 1, *SIZE), 2.0, dtype=F64)
    inverse = torch.tensor([[0.4, 0.8, 0.0, 0.0, 1.2]], dtype=F64)
    # Wanted 0.2, 0.4, 0.6 (mean 0.4), found 0.5; two of the five places are empty.
    expected = torch.tensor((0.3 + 0.1 + 0.1) / 5 / 0.4, dtype=F64)
    torch.testing.assert_close(sparse_loss(depth, PIXELS, inverse, torch.tensor([2.0], dtype=F64)), expected)
    student = maps(28).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: sparse_loss(d, PIXELS, inverse, torch.tensor([2.0], dtype=F64)), student)


@settings(max_examples=20, deadline=None)
@given(unit=st.floats(1e-3, 1e3))
def test_the_sparse_term_weighs_the_same_in_a_kitchen_and_in_a_street(unit):
    inverse = inverse_of_plane(PIXELS) * 1.3
    one = torch.ones(1, dtype=F64)
    torch.testing.assert_close(
        sparse_loss(unit * maps(29), PIXELS, inverse, unit * one), sparse_loss(maps(29), PIXELS, inverse, one)
    )


LOG2 = torch.tensor(2.0, dtype=F64).log()


def test_each_scale_learns_from_the_finer_one_alone():
    depths = [torch.full((1, 1, 8 // s, 8 // s), d, dtype=F64) for s, d in ((1, 1.0), (2, 2.0), (4, 8.0))]
    for depth in depths:
        depth.requires_grad_()
    loss = successive_scale_loss(depths)
    loss.backward()
    torch.testing.assert_close(loss, 1.5 * LOG2)
    assert depths[0].grad is None or depths[0].grad.abs().sum() == 0
    torch.testing.assert_close(depths[1].grad, torch.full((1, 1, 4, 4), 1 / 2 / 16 / 2, dtype=F64))
    assert (depths[2].grad > 0).all()


def test_one_scale_alone_costs_nothing_and_has_a_gradient():
    depth = maps(30).requires_grad_()
    loss = successive_scale_loss([depth])
    loss.backward()
    assert loss.item() == 0
    assert depth.grad.abs().sum() == 0


def test_a_coarse_scale_that_averages_the_finer_one_is_right():
    finer = maps(31)
    assert successive_scale_loss([finer, F.avg_pool2d(finer, 2), F.avg_pool2d(finer, 4)]) < 1e-9


def test_the_small_input_follows_the_large_one():
    low = torch.full((1, 1, 6, 8), 2.0, dtype=F64).requires_grad_()
    teacher = torch.full((1, 1, *SIZE), 4.0, dtype=F64)
    teacher[..., :8] = 1e9
    teacher.requires_grad_()
    right_half = box(slice(None), slice(8, None))
    loss = resolution_loss(low, teacher, right_half)
    loss.backward()
    torch.testing.assert_close(loss, LOG2)
    assert teacher.grad is None
    assert (low.grad[..., 4:] < 0).all()
    assert low.grad[..., :3].abs().sum() == 0
    assert resolution_loss(low, teacher, ~ALL).item() == 0
    start = (maps(32)[..., ::2, ::2]).contiguous().requires_grad_()
    assert torch.autograd.gradcheck(lambda d: resolution_loss(d, maps(33), ALL), start)


def test_the_distorted_view_follows_the_clean_one_where_that_explains_more():
    distorted = torch.full((1, 1, 1, 5), 2.0, dtype=F64).requires_grad_()
    clean = torch.ones(1, 1, 1, 5, dtype=F64).requires_grad_()
    inf = torch.inf
    clean_error = torch.tensor([0.1, 0.3, inf, 0.2, inf], dtype=F64).reshape(1, 1, 1, 5)
    distorted_error = torch.tensor([0.2, 0.1, inf, inf, 0.1], dtype=F64).reshape(1, 1, 1, 5)
    loss = filtered_consistency_loss(distorted, clean, clean_error, distorted_error)
    loss.backward()
    torch.testing.assert_close(loss, LOG2)
    assert (distorted.grad.flatten() != 0).tolist() == [True, False, False, True, False]
    assert clean.grad is None
    start = maps(34).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda d: filtered_consistency_loss(d, maps(35), torch.zeros_like(d), torch.ones_like(d)), start
    )
