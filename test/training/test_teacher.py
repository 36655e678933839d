"""The teacher: an average of the student, or held fast; and what one step is worth."""

import math
from copy import deepcopy

import pytest
import torch

from ssmde_ros.data.triplets import TripletConfig, Triplets
from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import DepthNet, DepthNetConfig
from ssmde_ros.training.step import Step
from ssmde_ros.training.teacher import Teacher
from test.training.scenes import training_clip


def small_net(seed=0):
    torch.manual_seed(seed)
    return DepthNet(DepthNetConfig(widths=(4, 4, 4, 4, 4), input_width=96, input_height=64))


def values(module):
    return torch.cat([p.detach().double().flatten() for p in module.parameters()])


def test_the_average_follows_the_closed_form_with_warm_up():
    teacher = Teacher(small_net(0), 0.3)
    expected = values(teacher.net)
    for step in range(1, 5):
        student = small_net(step)
        momentum = min(0.3, (1 + step) / (10 + step))
        assert (momentum == 0.3) == (step >= 3), "the test must see both the warm-up and what follows"
        expected = momentum * expected + (1 - momentum) * values(student)
        teacher.update(student)
        torch.testing.assert_close(values(teacher.net), expected, rtol=1e-5, atol=1e-6)
    assert teacher.updates == 4


def test_buffers_are_copied_and_the_student_is_left_alone():
    teacher, student = Teacher(small_net(), 0.99), small_net(1)
    names = [n for n, b in student.named_buffers() if n.endswith("running_mean")]
    assert names
    student.get_buffer(names[0]).fill_(7)
    before = deepcopy(student.state_dict())
    teacher.update(student)
    assert (teacher.net.get_buffer(names[0]) == 7).all()
    student.get_buffer(names[0]).fill_(8)
    assert (teacher.net.get_buffer(names[0]) == 7).all(), "a copy, not a view"
    student.load_state_dict(before)
    assert all(torch.equal(before[k], v) for k, v in student.state_dict().items())


def test_a_frozen_teacher_never_changes():
    origin = small_net()
    teacher = Teacher(origin, 1.0)
    before = deepcopy(teacher.state_dict())
    for seed in range(1, 4):
        teacher.update(small_net(seed))
    with torch.no_grad():
        for parameter in origin.parameters():
            parameter.zero_()
    assert teacher.updates == 0
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())


@pytest.mark.parametrize("momentum", [0.0, -0.1, 1.1, math.nan])
def test_a_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match="momentum"):
        Teacher(small_net(), momentum)


def test_the_teacher_stays_in_eval_mode_whatever_holds_it():
    holder = torch.nn.ModuleDict({"teacher": Teacher(small_net().train(), 0.9)})
    assert holder.train() is holder
    assert not any(m.training for m in holder["teacher"].modules())


def test_updates_survive_a_round_trip():
    teacher = Teacher(small_net(), 0.9)
    for seed in range(3):
        teacher.update(small_net(seed))
    other = Teacher(small_net(9), 0.9)
    other.load_state_dict(deepcopy(teacher.state_dict()))
    assert other.updates == 3
    for both in (teacher, other):
        both.update(small_net(5))
    torch.testing.assert_close(values(other.net), values(teacher.net), rtol=0, atol=0)


def test_the_teacher_gets_no_gradient_and_sees_the_clean_frames():
    batch = next(iter(Triplets([training_clip(frames=3)], TripletConfig(jitter=0.5), 1, 1)))
    teacher = Teacher(small_net(), 0.9)
    assert not any(p.requires_grad for p in teacher.parameters())
    seen = teacher.look(batch)
    assert not seen.depth.requires_grad
    with torch.no_grad():
        target = batch.frames[:, 0]
        close = {"rtol": 1e-4, "atol": 1e-4}
        torch.testing.assert_close(seen.depth, teacher.net.depth(target), **close)
        torch.testing.assert_close(seen.flipped, teacher.net.depth(target.flip(-1)).flip(-1), **close)
        torch.testing.assert_close(seen.augmented, teacher.net.depth(batch.augmented[:, 0]), **close)
        for number in range(2):
            source = batch.frames[:, 1 + number]
            torch.testing.assert_close(seen.source_depths[number], teacher.net.depth(source), **close)
            torch.testing.assert_close(seen.source_features[number], teacher.net.features(source)[1], **close)
        torch.testing.assert_close(seen.features, teacher.net.features(target)[1], **close)
    assert seen.features.shape[2:] == (16, 24), "stride 4"
    assert not torch.equal(seen.augmented, seen.depth)


def test_a_step_sums_its_weighted_terms_and_says_when_there_are_none():
    step = Step()
    with pytest.raises(SsmdeError, match="switched off"):
        _ = step.total
    step.add("a", torch.tensor(2.0), 0.5)
    step.add("b", torch.tensor(3.0, requires_grad=True), 2.0)
    assert step.total.item() == 7
    assert step.total.requires_grad
