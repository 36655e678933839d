"""Losses from pseudo-depth and from sparse points, and the terms of the relatives."""

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
    scale_from_points,
    sparse_loss,
    successive_scale_loss,
)
from ssmde_ros.training.losses.pseudo import aligned_depth, centre_and_spread, farther, in_convention, mean_and_spread
from ssmde_ros.training.losses.sparse import depth_at

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


# --- alignment -----------------------------------------------------------------------------------


def test_centre_and_spread_by_hand():
    values = torch.tensor([1.0, 2.0, 4.0, 100.0], dtype=F64).reshape(1, 1, 2, 2).requires_grad_()
    mask = torch.tensor([True, True, True, False]).reshape(1, 1, 2, 2)
    centre, spread = centre_and_spread(values, mask)
    assert (centre.item(), spread.item()) == (2.0, 1.0)
    assert not centre.requires_grad
    assert not spread.requires_grad
    assert [v.item() for v in centre_and_spread(values, ~mask & mask)] == [0.0, 1.0]


def test_mean_and_spread_by_hand():
    values = torch.tensor([1.0, 2.0, 6.0, 100.0], dtype=F64).reshape(1, 1, 2, 2)
    mask = torch.tensor([True, True, True, False]).reshape(1, 1, 2, 2)
    assert [v.item() for v in mean_and_spread(values, mask)] == [3.0, 2.0]
    assert [v.item() for v in mean_and_spread(values, ~mask & mask)] == [1.0, 1.0]
    assert torch.autograd.gradcheck(lambda x: mean_and_spread(x, mask), values.requires_grad_())


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-30, 1e30])
def test_a_constant_map_has_a_positive_spread(value):
    centre, spread = centre_and_spread(torch.full((1, 1, 4, 4), value), torch.ones(1, 1, 4, 4, dtype=torch.bool))
    assert spread > 0
    assert (torch.full((1, 1, 4, 4), value) - centre == 0).all()


def test_each_image_is_aligned_for_itself():
    depth, pseudo = maps(0, 2), maps(1, 2)
    together = aligned_depth(pseudo, depth, ALL.expand(2, -1, -1, -1), "inverse_depth")
    for i in range(2):
        alone = aligned_depth(pseudo[i : i + 1], depth[i : i + 1], ALL, "inverse_depth")
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_an_aligned_map_is_the_depth_it_came_from_and_stays_in_range(convention):
    depth = maps(2)
    torch.testing.assert_close(aligned_depth(affine(depth, convention, 7, -90), depth, ALL, convention), depth)
    wild = affine(depth, convention)
    wild[..., 0, 0], wild[..., 0, 1] = 1e6, -1e6
    moved = aligned_depth(wild, depth, ALL, convention)
    assert moved.min() >= 0.5 * depth.min()
    assert moved.max() <= 2 * depth.max()


def test_an_unknown_convention_is_refused():
    assert (farther("depth"), farther("inverse_depth")) == (1, -1)
    for term in (pseudo_static_loss, lambda *a: normal_loss(*a[:3], K, a[3])):
        with pytest.raises(ValueError, match="convention"):
            term(maps(3), maps(4), ALL, "disparity")
    for term in (ranking_loss, lambda *a: edge_normal_loss(*a[:3], K, a[3])):
        with pytest.raises(ValueError, match="convention"):
            term(maps(3), maps(4), ALL, "disparity")


# --- static --------------------------------------------------------------------------------------


@pytest.mark.parametrize("convention", CONVENTIONS)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), exponent=st.floats(-12, 12), shift=st.floats(-1e3, 1e3))
def test_scale_and_shift_of_the_pseudo_depth_do_not_matter(convention, seed, exponent, shift):
    depth, pseudo, scale = maps(seed), maps(seed + 1), 10.0**exponent
    moved = scale * (pseudo + shift)
    close = {"rtol": 1e-6, "atol": 1e-9}
    for term in (
        lambda p: pseudo_static_loss(depth, p, box(), convention),
        lambda p: normal_loss(depth, p, box(), K, convention),
        lambda p: ranking_loss(depth, p, box(), convention, generator=draw(seed)),
        lambda p: edge_normal_loss(depth, p, box(), K, convention, generator=draw(seed)),
    ):
        torch.testing.assert_close(term(moved), term(pseudo), **close)


@pytest.mark.parametrize("convention", CONVENTIONS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
def test_a_student_that_agrees_up_to_scale_and_shift_pays_nothing(convention, seed, scale, shift):
    depth = maps(seed)
    pseudo = affine(depth, convention, scale, shift)
    assert pseudo_static_loss(depth, pseudo, ALL, convention) < 1e-8
    assert normal_loss(depth, pseudo, ALL, K, convention) < 1e-6
    assert edge_normal_loss(depth, pseudo, ALL, K, convention) < 1e-6
    other = "depth" if convention == "inverse_depth" else "inverse_depth"
    assert pseudo_static_loss(depth, pseudo, ALL, other) > 0.1, "the conventions are not one"


def test_the_static_term_by_hand():
    depth = torch.tensor([1.0, 2.0, 3.0, 4.0, 8.0], dtype=F64).reshape(1, 1, 1, 5)
    pseudo = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0], dtype=F64).reshape(1, 1, 1, 5)
    mask = torch.ones_like(depth, dtype=torch.bool)
    a = torch.tensor([-2.6, -1.6, -0.6, 0.4, 4.4], dtype=F64) / 1.92  # mean 3.6, spread 9.6/5
    b = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0], dtype=F64) / 1.2
    residual = (a - b).abs() * 1.92 / 3.6
    torch.testing.assert_close(pseudo_static_loss(depth, pseudo, mask, "depth", trim=0.0), residual.mean())
    # The 8 fits worst; without it the two maps are the same up to a shift.
    assert pseudo_static_loss(depth, pseudo, mask, "depth", trim=0.2) < 1e-12


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_a_nearly_flat_student_learns_the_order_even_when_its_noise_is_the_other_way_round(convention):
    pseudo = affine(maps(5), convention)
    wanted = (pseudo - pseudo.median()).sign()
    for noise in (-pseudo, maps(6), torch.zeros_like(pseudo)):
        values = 0.3 + 1e-4 * noise
        depth = (values if convention == "depth" else 1 / values).requires_grad_()
        pseudo_static_loss(depth, pseudo, ALL, convention).backward()
        step = -depth.grad if convention == "depth" else depth.grad
        assert torch.isfinite(step).all()
        moved = step != 0
        assert ((step.sign() == wanted)[moved]).double().mean() > 0.6
        assert (step * wanted).sum() > 0
    relief = pseudo / pseudo.median() - 1
    turned, same = 1 - 0.4 * relief, 1 + 0.8 * relief
    turned, same = (v if convention == "depth" else 1 / v for v in (turned, same))
    assert pseudo_static_loss(turned, pseudo, ALL, convention) > 0.1
    assert pseudo_static_loss(same, pseudo, ALL, convention) < 1e-8


def test_a_flat_student_is_told_to_have_some_relief_and_then_left_in_peace():
    pseudo = maps(5)
    relief = (pseudo - pseudo.mean()) / (pseudo - pseudo.mean()).abs().mean()
    for spread, at_peace in ((0.0, False), (0.05, False), (0.1, True), (0.2, True)):
        paid = pseudo_static_loss(1 + spread * relief, pseudo, ALL, "depth", trim=0.0)
        torch.testing.assert_close(paid, torch.tensor(0.0 if at_peace else 0.1 - spread, dtype=F64))


@pytest.mark.parametrize("convention", CONVENTIONS)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_static_term_moves_no_image_nearer_or_farther(convention, seed):
    values = affine(maps(seed), convention)
    steep = values.clone().requires_grad_()
    flat = (1 + 0.02 * values).detach().requires_grad_()
    for student in (steep, flat):
        depth = student if convention == "depth" else 1 / student
        pseudo_static_loss(depth, maps(seed + 1), box(), convention).backward()
        size = (student.grad * student).abs().sum()
        assert size > 0
        assert (student.grad * student).sum().abs() < 1e-9 * size, "scale"
    assert steep.grad.sum().abs() < 1e-9 * steep.grad.abs().sum(), "shift"


def test_outliers_are_trimmed():
    depth = maps(9)
    pseudo = affine(depth, "inverse_depth", 3, 1)
    wrong = torch.zeros_like(ALL)
    wrong[..., :1, :] = True  # a twelfth of the image
    pseudo[wrong] += 50
    for trim, reached in ((0.2, False), (0.0, True)):
        student = depth.clone().requires_grad_()
        pseudo_static_loss(student, pseudo, ALL, "inverse_depth", trim).backward()
        assert (student.grad[wrong].abs().sum() > 0) == reached
        assert student.grad[~wrong].abs().sum() > 0


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_nothing_to_compare_costs_nothing_and_has_a_gradient(convention):
    for term in (
        lambda d: pseudo_static_loss(d, maps(11), ~ALL, convention),
        lambda d: normal_loss(d, maps(11), ~ALL, K, convention),
        lambda d: ranking_loss(d, maps(11), ~ALL, convention),
        lambda d: edge_normal_loss(d, maps(11), ~ALL, K, convention),
    ):
        depth = maps(10).requires_grad_()
        loss = term(depth)
        loss.backward()
        assert loss.item() == 0
        assert depth.grad.abs().sum() == 0


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("value", [0.0, 2.0])
def test_a_constant_pseudo_depth_and_a_flat_student_stay_finite(convention, value):
    constant = torch.full((1, 1, *SIZE), value)
    for start in (torch.full((1, 1, *SIZE), 3.0), maps(12).float()):
        depth = start.requires_grad_()
        loss = (
            pseudo_static_loss(depth, constant, ALL, convention)
            + normal_loss(depth, constant, ALL, K.float(), convention)
            + ranking_loss(depth, constant, ALL, convention)
            + edge_normal_loss(depth, constant, ALL, K.float(), convention)
        )
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(depth.grad).all()


def test_the_pseudo_depth_does_not_learn():
    depth, pseudo = maps(13).requires_grad_(), maps(14).requires_grad_()
    loss = (
        pseudo_static_loss(depth, pseudo, ALL)
        + normal_loss(depth, pseudo, ALL, K)
        + ranking_loss(depth, pseudo, box())
        + edge_normal_loss(depth, pseudo, box(), K)
    )
    loss.backward()
    assert pseudo.grad is None
    assert depth.grad.abs().sum() > 0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one shape"):
        pseudo_static_loss(maps(15), maps(15)[..., 1:], ALL)


def test_normals_of_two_planes_by_hand():
    student = plane(0.3, 0.004, 0.0)
    pseudo = 5 - 2 / plane(0.4, 0.0, 0.01)  # falls with v: the scale is positive, so the student must do so, too
    q, p = 1 / student, pseudo
    spread, width = ((x - x.median()).abs().mean() for x in (q, p))
    # Along a linear map, medians of an even count differ from the middle: the alignment's own numbers are used.
    offset = (0 - p.median()) / width * spread + q.median()
    wanted = torch.stack([torch.tensor(0.0, dtype=F64), -0.02 * spread / width, offset + (5 - 0.8) * spread / width])
    found = torch.tensor([0.004, 0.0, 0.3], dtype=F64)
    a, b = (-K[0].T @ n for n in (found, wanted))
    expected = 1 - (a / a.norm()) @ (b / b.norm())
    assert expected > 0.01
    torch.testing.assert_close(normal_loss(student, pseudo, ALL, K, "inverse_depth"), expected)


# --- dynamic -------------------------------------------------------------------------------------


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
        lambda d, i: geometry_loss(d, pseudo[i], mask[i]),
    ):
        student = depth.clone().requires_grad_()
        (whole,) = torch.autograd.grad(term(student, slice(None)), student)
        alone = []
        for i in range(3):
            student = depth[i : i + 1].clone().requires_grad_()
            alone += torch.autograd.grad(term(student, slice(i, i + 1)), student)
        torch.testing.assert_close(whole, torch.cat(alone) / 3)


# --- sparse points -------------------------------------------------------------------------------

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
    # Wanted 0.2, 0.4, 0.6 (mean 0.4), found 0.5.
    expected = torch.tensor((0.3 + 0.1 + 0.1) / 3 / 0.4, dtype=F64)
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


# --- relatives -----------------------------------------------------------------------------------

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
