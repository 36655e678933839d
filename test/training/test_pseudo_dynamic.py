"""Pseudo-depth on what moves: ranking and edge-guided normals."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ssmde_ros.training.losses import (
    distillation_loss,
    edge_normal_loss,
    filtered_consistency_loss,
    geometry_loss,
    normal_loss,
    pseudo_static_loss,
    ranking_loss,
    resolution_loss,
    sparse_loss,
    successive_scale_loss,
)
from test.training.pseudo_maps import ALL, CONVENTIONS, F64, SIZE, K, affine, box, draw, maps, plane


def object_before_wall(near=2.0, far=4.0):
    """Depth, and the box of the object."""
    return torch.where(box(), near, far).to(F64), box()


def test_the_ranking_of_two_depths_by_hand():
    truth, _ = object_before_wall()
    dynamic = torch.zeros_like(ALL)
    dynamic[..., 5, 6] = True
    loss = ranking_loss(truth, truth, dynamic, "depth", pairs=1000)
    # Half of the partners are the pixel itself, the others anywhere; 144 of 192 pixels are wall.
    behind = loss * 1000 / (0.1 * math.log1p(2**-10))
    assert abs(behind - behind.round()) < 1e-9
    assert 325 < behind < 425
    turned = ranking_loss(truth, -truth, dynamic, "depth", pairs=1000)
    torch.testing.assert_close(turned / loss, torch.tensor(math.log1p(2**10) / math.log1p(2**-10), dtype=F64))


def test_pairs_in_the_right_order_are_left_in_peace():
    truth, dynamic = object_before_wall()
    depth = truth.clone().requires_grad_()
    ranking_loss(depth, truth, dynamic, "depth").backward()
    settled = depth.grad.abs().sum()
    depth = torch.full_like(truth, 3.0).requires_grad_()
    ranking_loss(depth, truth, dynamic, "depth").backward()
    assert settled < 0.01 * depth.grad.abs().sum(), "or near and far would be driven to the ends of the range"


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_ranking_brings_the_object_forward(convention):
    truth, dynamic = object_before_wall()
    depth = torch.full_like(truth, 3.0).requires_grad_()
    ranking_loss(depth, affine(truth, convention, 0.01, 7), dynamic, convention).backward()
    assert depth.grad[dynamic].sum() > 0, "nearer is better"
    assert depth.grad[~dynamic].sum() < 0, "farther is better"
    assert (depth.grad[dynamic] >= 0).all()
    assert (depth.grad[~dynamic] <= 0).all()
    right = ranking_loss(truth, affine(truth, convention), dynamic, convention)
    wrong = ranking_loss(6 - truth, affine(truth, convention), dynamic, convention)
    assert right < wrong


def test_depths_the_map_cannot_tell_apart_are_brought_together():
    pseudo = torch.where(torch.rand(1, 1, *SIZE, generator=draw(0)) < 0.5, 1.0, 1.01).to(F64)
    pseudo[..., :2] = 9  # gives the map a spread
    dynamic = box()
    same = ranking_loss(torch.full((1, 1, *SIZE), 2.0, dtype=F64), pseudo, dynamic, "depth", generator=draw(1))
    noisy = ranking_loss(maps(16), pseudo, dynamic, "depth", generator=draw(1))
    assert same < noisy
    assert same < 0.1, "one percent is no order: only the few pairs with the column at 9 m have one"


@pytest.mark.parametrize(("dtype", "exponent"), [(F64, 700.0), (torch.float32, 86.0)])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_huge_differences_stay_finite(dtype, exponent, convention):
    truth, dynamic = object_before_wall()
    for sign in (1, -1):
        log_depth = torch.where(dynamic, sign * exponent, -sign * exponent).to(dtype).requires_grad_()
        loss = ranking_loss(log_depth.exp(), affine(truth, convention).to(dtype), dynamic, convention)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(log_depth.grad).all()
        # Everything is turned around, or all is right: linear in the difference, or nothing.
        assert (loss > 0.3 * exponent) if sign > 0 else (loss < 1e-6)


def test_images_without_dynamic_pixels_get_no_gradient():
    depth, pseudo = maps(17, 2).requires_grad_(), maps(18, 2)
    dynamic = torch.cat([~ALL, box()])
    for loss in (
        ranking_loss(depth, pseudo, dynamic),
        edge_normal_loss(depth, pseudo, dynamic, K.expand(2, -1, -1)),
    ):
        (grad,) = torch.autograd.grad(loss, depth)
        assert grad[0].abs().sum() == 0
        assert grad[1].abs().sum() > 0


def test_only_pairs_with_a_dynamic_pixel_are_drawn():
    truth, dynamic = object_before_wall()
    depth = torch.full_like(truth, 3.0)
    depth[~dynamic] = maps(19)[~dynamic]
    flat = torch.zeros_like(truth)  # says nothing of any pair: only pairs between unlike depths cost
    flat[dynamic] = truth[dynamic]
    one = torch.zeros_like(ALL)
    one[..., 5, 6] = True
    depth.requires_grad_()
    ranking_loss(depth, flat, one, "depth", pairs=4000).backward()
    assert depth.grad[one].abs().sum() > 0
    assert (depth.grad * depth).sum().abs() < 1e-12, "a pair pulls both ends alike"
    assert depth.grad[dynamic & ~one].abs().sum() == 0, "as far as the one, and the map says so"


@pytest.mark.parametrize("term", [ranking_loss, lambda *a, **k: edge_normal_loss(*a, K, **k)])
def test_the_same_generator_draws_the_same_pairs(term):
    depth, pseudo, dynamic = maps(20), maps(21), box()
    assert term(depth, pseudo, dynamic, generator=draw(3)) == term(depth, pseudo, dynamic, generator=draw(3))
    assert term(depth, pseudo, dynamic, generator=draw(3)) != term(depth, pseudo, dynamic, generator=draw(4))
    assert term(depth, pseudo, dynamic) == term(depth, pseudo, dynamic)
    generator = draw(3)
    assert term(depth, pseudo, dynamic, generator=generator) != term(depth, pseudo, dynamic, generator=generator)


def test_drawing_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    ranking_loss(maps(20), maps(21), box())
    edge_normal_loss(maps(20), maps(21), box(), K)
    assert torch.equal(torch.get_rng_state(), before)


def test_ranking_gradients():
    depth, pseudo = maps(22), maps(23)
    assert torch.autograd.gradcheck(lambda d: ranking_loss(d, pseudo, box(), pairs=64), depth.requires_grad_())


def test_an_edge_must_be_as_sharp_as_in_the_map():
    # Two walls that meet in a ridge, at column 8, and a student that sees one flat wall.
    v, u = torch.meshgrid(*(torch.arange(n, dtype=F64) for n in SIZE), indexing="ij")
    inverse = (0.3 + 0.01 * (u - 7.5).abs() + 0 * v)[None, None]
    ridge, flat = 1 / inverse, plane(0.3, 0.0, 0.01)
    columns = box(slice(None), slice(5, 11))
    assert edge_normal_loss(ridge, inverse, columns, K) < 1e-9
    assert edge_normal_loss(flat, inverse, columns, K) > 0.02
    depth = flat.requires_grad_()
    edge_normal_loss(depth, inverse, columns, K).backward()
    assert torch.isfinite(depth.grad).all()
    assert depth.grad.abs().sum() > 0


@pytest.mark.parametrize("term", ["edge", "normal"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), corner=st.booleans())
def test_terms_on_normals_stay_finite_and_bounded(term, seed, corner):
    depth = maps(seed, low=0.01, high=100).float().requires_grad_()
    mask = torch.zeros_like(ALL) if corner else box()
    mask[..., -1, -1] = True
    pseudo = maps(seed + 1).float()
    if term == "edge":
        loss = edge_normal_loss(depth, pseudo, mask, K.float())
    else:
        loss = normal_loss(depth, pseudo, mask, K.float())
    loss.backward()
    assert 0 <= loss <= 2 + 1e-6
    assert torch.isfinite(depth.grad).all()


def test_a_batch_is_the_mean_of_its_images():
    depth, pseudo = maps(24, 3), maps(25, 3)
    mask = torch.cat([box(), ALL, box(slice(0, 2))])
    lens = K.expand(3, -1, -1)
    error = maps(26, 3)
    pixels = torch.rand(3, 20, 2, dtype=F64, generator=draw(6)) * 10
    known = (torch.rand(3, 20, generator=draw(7)) < 0.5).to(F64) / 3
    for term in (
        lambda d, i: pseudo_static_loss(d, pseudo[i], mask[i], "depth"),
        lambda d, i: pseudo_static_loss(d, pseudo[i], mask[i]),
        lambda d, i: normal_loss(d, pseudo[i], mask[i], lens[i]),
        lambda d, i: sparse_loss(d, pixels[i], known[i], torch.ones(len(d), dtype=F64)),
        lambda d, i: resolution_loss(d, pseudo[i], mask[i]),
        lambda d, i: filtered_consistency_loss(d, pseudo[i], error[i], torch.full_like(d, 3.0)),
        lambda d, i: successive_scale_loss([pseudo[i], F.avg_pool2d(d, 2)]),
        lambda d, i: distillation_loss(d, pseudo[i], mask[i]),
        lambda d, i: geometry_loss(d, pseudo[i], mask[i], mask[i]),
    ):
        student = depth.clone().requires_grad_()
        (whole,) = torch.autograd.grad(term(student, slice(None)), student)
        alone = []
        for i in range(3):
            student = depth[i : i + 1].clone().requires_grad_()
            alone += torch.autograd.grad(term(student, slice(i, i + 1)), student)
        torch.testing.assert_close(whole, torch.cat(alone) / 3)
