"""Whom a training step believes about the camera's motion."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.data.triplets import Batch
from ssmde_ros.geometry import inverse, look, se3_exp
from ssmde_ros.networks import PoseNet
from ssmde_ros.training.ego_motion import ego_motion, measured_by, network_motions, pose_difference

H, W, POINTS = 32, 32, 40


def clock(a, b, intrinsics):
    """A pose network that reads the time off each frame: one unit to the right per unit of time, and a turn."""
    elapsed = (b - a).mean((1, 2, 3))
    twist = torch.zeros(len(a), 6).to(a)
    twist[:, 1], twist[:, 3] = 0.1 * elapsed, elapsed
    return se3_exp(twist)


def frames_at(*times, batch=1):
    """Frames whose grey value is the time; target first."""
    return torch.tensor(times).reshape(1, -1, 1, 1, 1).expand(batch, -1, 3, H, W).clone()


def batch_of(count=1, known=(True, True), metric=(False, False), points=POINTS, length=1.0, inverse_depth=0.5):
    """Both motions go `length` forward and turn a little."""
    twist = torch.tensor([[0.0, 0.02, 0.0, 0.0, 0.0, -length], [0.0, -0.02, 0.0, 0.0, 0.0, length]])
    motions = se3_exp(twist)
    motions[:, :3, 3] *= length / motions[:, :3, 3].norm(dim=1, keepdim=True)
    generator = torch.Generator().manual_seed(0)
    inverse = torch.zeros(count, 2, POINTS)
    inverse[..., :points] = inverse_depth
    frames = torch.rand(count, 3, 3, H, W, generator=generator)
    return Batch(
        frames=frames,
        augmented=frames,
        intrinsics=torch.eye(3).expand(count, -1, -1),
        motions=motions.expand(count, -1, -1, -1).clone(),
        motion_known=torch.tensor([known]).expand(count, -1).clone(),
        motion_metric=torch.tensor([metric]).expand(count, -1).clone(),
        pixels=torch.rand(count, 2, POINTS, 2, generator=generator) * (W - 1),
        inverse_depth=inverse,
        inside=torch.ones(count, 1, H, W, dtype=torch.bool),
        pseudo=None,
        depth=None,
        moving=None,
        clip=torch.zeros(count, dtype=torch.long),
        index=torch.ones(count, dtype=torch.long),
        number=torch.arange(count),
    )


@pytest.fixture
def pose_net():
    torch.manual_seed(0)
    return PoseNet()


DEPTH = torch.full((1, 1, H, W), 4.0)

# --- the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [(5.0, 3.0, 8.0), (5.0, 1.0, 3.0, 6.0, 9.0), (5.0, 7.0)])
def test_every_motion_leads_from_the_target_to_its_source(times):
    frames, lens = frames_at(*times, batch=2), torch.eye(3).expand(2, -1, -1)
    motions = network_motions(clock, frames, lens)
    assert motions.shape == (2, len(times) - 1, 4, 4)
    for number in range(len(times) - 1):
        torch.testing.assert_close(motions[:, number], clock(frames[:, 0], frames[:, 1 + number], lens))


def test_translation_is_measured_by_the_mean_inverse_depth_of_its_own_image():
    motions = network_motions(clock, frames_at(5.0, 3.0, 8.0, batch=2), torch.eye(3).expand(2, -1, -1))
    depth = torch.full((2, 1, H, W), 6.0)
    depth[1, :, : H // 2], depth[1, :, H // 2 :] = 1.0, 3.0  # inverse depths 1 and 1/3, their mean 2/3
    seen = measured_by(depth, motions)
    factors = torch.tensor([6.0, 1.5]).reshape(2, 1, 1)
    torch.testing.assert_close(seen[..., :3, 3], factors * motions[..., :3, 3])
    torch.testing.assert_close(seen[..., :3, :3], motions[..., :3, :3])


def test_where_things_appear_has_no_slope_along_the_scale_of_depth():
    # However wrong the motion, no image must move nearer or farther as a whole.
    torch.manual_seed(0)
    shape = torch.rand(1, 1, H, W, dtype=torch.float64) + 0.5
    lens = torch.tensor([[30.0, 0, 15.5], [0, 30.0, 15.5], [0, 0, 1]], dtype=torch.float64)[None]
    motion = se3_exp(torch.tensor([[0.01, 0.02, 0.0, 0.3, -0.1, 0.2]], dtype=torch.float64))[None]
    stretch = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    depth = shape * stretch.exp()
    pixels = look(depth, measured_by(depth, motion)[:, 0], lens).pixels
    (slope,) = torch.autograd.grad((pixels * torch.rand_like(pixels)).sum(), stretch)
    assert slope.abs() < 1e-9


# --- how far apart two motions are ---------------------------------------------------------------


def pair(twist):
    return se3_exp(torch.tensor([twist], dtype=torch.float64))[None]


YES = torch.ones(1, 1, dtype=torch.bool)


@settings(max_examples=30, deadline=None)
@given(angle=st.floats(0.001, 3), off=st.floats(-2, 2), length=st.floats(0.1, 10))
def test_the_difference_by_hand(angle, off, length):
    wanted = pair([0, 0, 0, 0, 0, length])
    turned = pair([0, angle, 0, 0, 0, 0])
    turned[..., :3, 3] = torch.tensor([off * length, 0, length], dtype=torch.float64)
    expected = 2 * math.sqrt(2) * math.sin(angle / 2) + abs(off)
    assert pose_difference(turned, wanted, YES).item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_the_difference_is_flat_and_finite_where_there_is_none():
    twist = torch.tensor([[0.1, 0.2, 0.3, 1.0, 2.0, 3.0]], dtype=torch.float64, requires_grad=True)
    same = se3_exp(twist)[None]
    loss = pose_difference(same, same.detach(), YES)
    loss.backward()
    assert loss < 1e-5
    assert torch.isfinite(twist.grad).all()
    assert twist.grad.abs().max() < 1e-6
    still = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    loss = pose_difference(se3_exp(still)[None], pair([0.0] * 6), YES)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(still.grad).all(), "a camera that stands still"


def test_half_a_turn_has_a_finite_gradient():
    twist = torch.tensor([[0.0, math.pi, 0.0, 0.0, 0.0, 1.0]], requires_grad=True)
    pose_difference(se3_exp(twist)[None], se3_exp(torch.tensor([[0.0, 0, 0, 0, 0, 1]]))[None], YES).backward()
    assert torch.isfinite(twist.grad).all()


def test_a_step_along_the_gradient_comes_closer():
    twist = torch.tensor([[0.1, 0.0, -0.2, 1.0, 0.0, 0.5]], dtype=torch.float64, requires_grad=True)
    wanted = pair([0.0, 0.1, 0.0, 0.5, 0.2, 1.0])
    loss = pose_difference(se3_exp(twist)[None], wanted, YES)
    (grad,) = torch.autograd.grad(loss, twist)
    assert pose_difference(se3_exp(twist - 0.01 * grad)[None], wanted, YES) < loss
    assert torch.autograd.gradcheck(lambda t: pose_difference(se3_exp(t)[None], wanted, YES), twist)


def test_pairs_that_are_not_known_cost_nothing():
    wanted = torch.cat([pair([0, 0, 0, 0, 0, 1.0])] * 2, 1)
    estimate = torch.cat([pair([0, 0, 0, 1.0, 0, 1.0]), pair([1.0, 0, 0, 9, 9, 9])], 1).requires_grad_()
    loss = pose_difference(estimate, wanted, torch.tensor([[True, False]]))
    loss.backward()
    assert loss.item() == pytest.approx(0.5, abs=1e-5)
    assert estimate.grad[0, 1].abs().sum() == 0


# --- aid and network together --------------------------------------------------------------------


def test_a_metric_aid_is_kept_as_it_is(pose_net):
    batch = batch_of(metric=(True, True), length=0.3, points=0)
    result = ego_motion(pose_net, batch, DEPTH, min_points=24)
    torch.testing.assert_close(result.motions, batch.motions)
    assert (result.scale == 1).all()
    assert result.from_aid == 1


def test_a_metric_aid_is_not_scaled_by_its_points(pose_net):
    batch = batch_of(metric=(True, True), length=0.3, inverse_depth=17.0)
    result = ego_motion(pose_net, batch, DEPTH, min_points=24)
    torch.testing.assert_close(result.motions, batch.motions)
    assert (result.scale == 1).all()


@pytest.mark.parametrize(("inverse_depth", "scale"), [(0.275, 1.1), (0.5, 1.25), (0.225, 0.9), (0.1, 0.8), (0.0, 1.0)])
def test_a_metric_aid_may_be_stretched_a_little_to_fit_its_points(pose_net, inverse_depth, scale):
    batch = batch_of(metric=(True, True), length=0.3, inverse_depth=inverse_depth)
    result = ego_motion(pose_net, batch, DEPTH, min_points=24, slack=0.25)
    torch.testing.assert_close(result.scale, torch.full((1, 2), scale))
    torch.testing.assert_close(result.motions[..., :3, 3], scale * batch.motions[..., :3, 3])
    torch.testing.assert_close(result.motions[..., :3, :3], batch.motions[..., :3, :3])


def test_slack_is_not_for_motions_of_unit_length(pose_net):
    found = [ego_motion(pose_net, batch_of(inverse_depth=2.0), DEPTH, 24, slack=s).motions for s in (0.0, 0.25)]
    assert torch.equal(*found)


def test_a_motion_of_unit_length_is_scaled_by_the_median_of_its_points(pose_net):
    batch = batch_of()
    batch.inverse_depth[:, 0, : POINTS // 2 - 2] = 50.0  # outliers, short of half
    result = ego_motion(pose_net, batch, DEPTH, min_points=24)
    # The points are two units away, and the student says four metres.
    torch.testing.assert_close(result.scale, torch.full((1, 2), 2.0))
    torch.testing.assert_close(result.motions[..., :3, 3], 2 * batch.motions[..., :3, 3])
    torch.testing.assert_close(result.motions[..., :3, :3], batch.motions[..., :3, :3])
    torch.testing.assert_close(result.motions[..., 3, :], batch.motions[..., 3, :])
    assert result.from_aid == 1


@pytest.mark.parametrize(("points", "aided"), [(23, False), (24, True), (0, False)])
def test_with_too_few_points_the_network_steps_in(pose_net, points, aided):
    batch = batch_of(points=points)
    result = ego_motion(pose_net, batch, DEPTH, min_points=24)
    learned = measured_by(DEPTH, network_motions(pose_net, batch.augmented, batch.intrinsics))
    assert (result.from_aid == 1) == aided
    assert torch.equal(result.motions, learned) != aided
    assert torch.isfinite(result.scale).all()
    assert (result.regulariser > 0) == aided


def test_where_the_aid_is_silent_the_network_steps_in_pair_by_pair(pose_net):
    batch = batch_of(count=2, known=(True, False), metric=(True, False))
    batch.motion_known[1], batch.motion_metric[1] = torch.tensor([False, True]), torch.tensor([False, True])
    result = ego_motion(pose_net, batch, DEPTH.expand(2, -1, -1, -1), min_points=24)
    learned = measured_by(DEPTH.expand(2, -1, -1, -1), network_motions(pose_net, batch.augmented, batch.intrinsics))
    torch.testing.assert_close(result.motions[0, 0], batch.motions[0, 0])
    torch.testing.assert_close(result.motions[1, 1], batch.motions[1, 1])
    torch.testing.assert_close(result.motions[0, 1], learned[0, 1])
    torch.testing.assert_close(result.motions[1, 0], learned[1, 0])
    assert result.from_aid == 0.5


def test_without_any_aid_there_is_the_network_alone(pose_net):
    batch = batch_of(known=(False, False), points=0)
    result = ego_motion(pose_net, batch, DEPTH, min_points=24)
    assert torch.equal(result.motions, measured_by(DEPTH, network_motions(pose_net, batch.augmented, batch.intrinsics)))
    assert result.from_aid == 0
    assert result.regulariser.item() == 0
    assert result.regulariser.requires_grad
    assert (result.scale == 1).all()
    (result.motions[..., :3, 3].sum() + result.regulariser).backward()
    assert all(p.grad is not None for p in pose_net.parameters())


@pytest.mark.parametrize("metric", [True, False])
def test_the_regulariser_trains_the_pose_network_only(pose_net, metric):
    depth = DEPTH.clone().requires_grad_()
    result = ego_motion(pose_net, batch_of(metric=(metric, metric)), depth, min_points=24)
    assert not result.scale.requires_grad
    result.regulariser.backward()
    assert depth.grad is None or depth.grad.abs().sum() == 0
    assert any(p.grad.abs().sum() > 0 for p in pose_net.parameters())
    assert all(torch.isfinite(p.grad).all() for p in pose_net.parameters())


def test_motions_of_an_aid_train_nothing(pose_net):
    depth = DEPTH.clone().requires_grad_()
    result = ego_motion(pose_net, batch_of(), depth, min_points=24)
    result.motions.sum().backward()
    assert depth.grad is None or depth.grad.abs().sum() == 0
    assert all(p.grad is None or p.grad.abs().sum() == 0 for p in pose_net.parameters())


def test_the_network_learns_the_aid(pose_net):
    batch = batch_of(metric=(True, True), length=0.2)
    optimiser = torch.optim.Adam(pose_net.parameters(), 1e-3)
    losses = []
    for _ in range(60):
        loss = ego_motion(pose_net, batch, DEPTH, 24).regulariser
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_both_aid_motions_are_each_other_turned_around():
    # What the tests above stand on: the two motions of `batch_of` lead in opposite directions.
    motions = batch_of().motions[0]
    torch.testing.assert_close(inverse(motions[:1])[0], motions[1], rtol=0, atol=1e-5)
