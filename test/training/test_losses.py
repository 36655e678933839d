"""Geometry, smoothness and distillation, against closed forms and finite differences."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.training.losses import (
    depth_difference,
    distillation_loss,
    geometry_loss,
    prior_loss,
    settled,
    smoothness_loss,
)
from test.training.maps_of_losses import ALL, F64, images


def test_depth_difference_by_hand():
    a, b = torch.tensor([2.0, 4.0]).reshape(1, 1, 1, 2), torch.tensor([2.0, 1.0]).reshape(1, 1, 1, 2)
    torch.testing.assert_close(depth_difference(a, b).flatten(), torch.tensor([0.0, 0.6]))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_depth_difference_knows_no_scale(seed, scale):
    a, b = images(seed, 1) + 0.1, images(seed + 1, 1) + 0.1
    difference = depth_difference(a, b)
    assert 0 <= difference.min()
    assert difference.max() < 1
    torch.testing.assert_close(depth_difference(scale * a, scale * b), difference)
    torch.testing.assert_close(depth_difference(b, a), difference)


def test_points_behind_the_camera_stay_finite():
    behind = torch.tensor([-2.0, -1e-9, 0.0]).reshape(1, 1, 1, 3).requires_grad_()
    nowhere = torch.zeros(1, 1, 1, 3, dtype=torch.bool)
    loss = geometry_loss(behind, torch.full((1, 1, 1, 3), 1.0), nowhere, nowhere)
    loss.backward()
    assert torch.isfinite(depth_difference(behind, torch.ones_like(behind))).all()
    assert torch.isfinite(behind.grad).all()


def test_a_settled_depth_is_the_same_and_moves_no_whole_image():
    depth = (1 + images(0, 1, batch=2)).requires_grad_()
    counted = images(1, 1, batch=2) > 0.3
    kept = settled(depth, counted)
    torch.testing.assert_close(kept, depth)
    weight = images(2, 1, batch=2)
    (slope,) = torch.autograd.grad((kept * weight).sum(), depth)
    # D dL/dD summed is the pull on the logarithm of the whole image. Only pixels that count are balanced by others.
    pull = (slope * depth).sum((1, 2, 3))
    torch.testing.assert_close(pull, torch.zeros_like(pull), atol=1e-12, rtol=0)
    assert (slope[~counted] == weight[~counted]).all(), "what does not count is not bent"
    assert (slope[counted] != weight[counted]).all()


def test_a_settled_depth_of_nothing_is_left_alone():
    depth = (1 + images(0, 1)).requires_grad_()
    (slope,) = torch.autograd.grad(settled(depth, ~ALL).sum(), depth)
    torch.testing.assert_close(slope, torch.ones_like(slope))


def test_geometry_gradients():
    a, b = (images(s, 1) + 0.5 for s in (12, 13))
    assert torch.autograd.gradcheck(
        lambda x, y: geometry_loss(x, y, ALL, ALL), (a.requires_grad_(), b.requires_grad_())
    )


# --- smoothness ----------------------------------------------------------------------------------


def test_flat_depth_is_smooth_and_scale_does_not_matter():
    image, depth = images(14), images(15, 1) + 0.5
    assert smoothness_loss(torch.full_like(depth, 3.0), image) < 1e-12
    torch.testing.assert_close(smoothness_loss(5 * depth, image), smoothness_loss(depth, image))


def test_a_step_costs_less_where_the_image_has_an_edge():
    depth = torch.ones(1, 1, 6, 8, dtype=F64)
    depth[..., 4:] = 3
    edge = torch.zeros(1, 3, 6, 8, dtype=F64)
    edge[..., 4:] = 1
    flat = torch.zeros_like(edge)
    ratio = smoothness_loss(depth, edge) / smoothness_loss(depth, flat)
    torch.testing.assert_close(ratio, torch.tensor(-1.0, dtype=F64).exp())


def test_smoothness_gradients():
    depth = (images(16, 1) + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: smoothness_loss(d, images(17)), depth)
    with pytest.raises(ValueError, match="one view"):
        smoothness_loss(depth, images(17, size=(3, 3)))


# --- distillation --------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(0.05, 20))
def test_a_teacher_in_other_units_teaches_the_same(scale):
    student, teacher = images(18, 1) + 0.5, images(19, 1) + 0.5
    torch.testing.assert_close(
        distillation_loss(student, scale * teacher, ALL), distillation_loss(student, teacher, ALL)
    )
    assert distillation_loss(student, scale * student, ALL) < 1e-12


def test_only_masked_pixels_teach_and_the_teacher_does_not_learn():
    student, teacher = (images(20, 1) + 0.5).requires_grad_(), (images(21, 1) + 0.5).requires_grad_()
    mask = ALL.clone()
    mask[..., 4:] = False
    distillation_loss(student, teacher, mask).backward()
    assert teacher.grad is None
    assert student.grad[..., 4:].abs().sum() == 0
    assert student.grad[..., :4].abs().sum() > 0
    assert distillation_loss(student, teacher, ~ALL).item() == 0


@pytest.mark.parametrize("unit", [1.0, 7.0])
def test_the_prior_on_a_region_has_the_scale_of_the_rest_and_weighs_with_its_area(unit):
    student = torch.tensor([1.0, 3.0, 2.0, 4.0], dtype=F64).reshape(1, 1, 2, 2).requires_grad_()
    teacher = unit * torch.tensor([1.0, 3.0, 8.0, 4.0], dtype=F64).reshape(1, 1, 2, 2)
    mask = torch.tensor([True, False, True, False]).reshape(1, 1, 2, 2)
    shown = torch.ones_like(mask)
    value = prior_loss(student, teacher, mask, shown)
    torch.testing.assert_close(value, torch.tensor(math.log(4.0) / 4, dtype=F64))
    value.backward()
    torch.testing.assert_close(student.grad.flatten(), torch.tensor([0.0, 0.0, -1 / 8, 0.0], dtype=F64))
    assert prior_loss(student, teacher, ~shown, shown).item() == 0
    assert prior_loss(student, student.detach() * unit, shown, shown).item() < 1e-12, "nothing else to tell the scale"


def test_a_region_that_is_most_of_the_image_cannot_drift_away_from_the_rest():
    teacher = images(28, 1) + 0.5
    mask = ALL.clone()
    mask[..., 5:] = False
    assert mask.float().mean() > 0.6
    drifted = torch.where(mask, 3 * teacher, teacher)
    torch.testing.assert_close(
        prior_loss(drifted, teacher, mask, ALL), torch.tensor(math.log(3.0), dtype=F64) * mask.double().mean()
    )


def test_confidence_weighs():
    student = torch.tensor([1.0, 1.0, 1.0, 2.0], dtype=F64).reshape(1, 1, 2, 2)
    teacher = torch.ones_like(student)
    mask = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    confidence = torch.tensor([1.0, 1.0, 1.0, 0.5], dtype=F64).reshape(1, 1, 2, 2)
    log2 = torch.tensor(2.0, dtype=F64).log()
    torch.testing.assert_close(distillation_loss(student, teacher, mask), log2 / 4)
    torch.testing.assert_close(distillation_loss(student, teacher, mask, confidence), 0.5 * log2 / 3.5)
    with pytest.raises(ValueError, match="one shape"):
        distillation_loss(student, teacher, ALL)
