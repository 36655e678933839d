import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.training.losses import (
    depth_difference,
    distillation_loss,
    geometry_loss,
    masked_mean,
    photometric_error,
    photometric_loss,
    settled,
    smoothness_loss,
    ssim,
)

F64 = torch.float64


def images(seed, channels=3, size=(6, 7), batch=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, channels, *size, dtype=F64, generator=generator)


ALL = torch.ones(1, 1, 6, 7, dtype=torch.bool)


# --- masked mean ---------------------------------------------------------------------------------


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


# --- photometric ---------------------------------------------------------------------------------


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


# --- geometry ------------------------------------------------------------------------------------


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
    loss = geometry_loss(behind, torch.full((1, 1, 1, 3), 1.0), torch.zeros(1, 1, 1, 3, dtype=torch.bool))
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
    assert torch.autograd.gradcheck(lambda x, y: geometry_loss(x, y, ALL), (a.requires_grad_(), b.requires_grad_()))


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
