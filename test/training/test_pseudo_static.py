"""Pseudo-depth on what stands still: alignment, the static term, normals."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.training.losses import (
    edge_normal_loss,
    normal_loss,
    pseudo_static_loss,
    ranking_loss,
)
from ssmde_ros.training.losses.pseudo import aligned_depth, centre_and_spread, farther, mean_and_spread
from test.training.pseudo_maps import ALL, CONVENTIONS, F64, SIZE, K, affine, box, draw, maps, plane


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
