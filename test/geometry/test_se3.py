import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.geometry import inverse, rigid_motion, se3_exp, so3_exp, transform
from ssmde_ros.geometry.se3 import skew

numbers = st.floats(-3, 3, allow_nan=False)
twists = st.lists(numbers, min_size=6, max_size=6).map(lambda v: torch.tensor([v], dtype=torch.float64))
EYE = torch.eye(4, dtype=torch.float64)


def generator(twist):
    """The 4x4 matrix of se(3) whose exponential is wanted."""
    matrix = torch.zeros(1, 4, 4, dtype=torch.float64)
    matrix[:, :3, :3], matrix[:, :3, 3] = skew(twist[:, :3]), twist[:, 3:]
    return matrix


@settings(max_examples=50, deadline=None)
@given(twist=twists, size=st.sampled_from([1.0, 1e-2, 1e-5, 0.0]))
def test_the_exponential_is_that_of_the_matrix(twist, size):
    torch.testing.assert_close(
        se3_exp(size * twist), torch.linalg.matrix_exp(generator(size * twist)), atol=1e-9, rtol=1e-9
    )


@settings(max_examples=30, deadline=None)
@given(twist=twists)
def test_the_inverse_undoes_the_motion(twist):
    motion = se3_exp(twist)
    torch.testing.assert_close(inverse(motion) @ motion, EYE[None], atol=1e-9, rtol=0)
    torch.testing.assert_close(inverse(motion), se3_exp(-twist), atol=1e-9, rtol=0)


@settings(max_examples=30, deadline=None)
@given(twist=twists)
def test_rotations_are_orthogonal_and_right_handed(twist):
    rotation = so3_exp(twist[:, :3])
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), EYE[None, :3, :3], atol=1e-9, rtol=0)
    assert torch.linalg.det(rotation).item() == pytest.approx(1)


def test_a_quarter_turn_about_the_optical_axis():
    rotation = so3_exp(torch.tensor([[0.0, 0.0, math.pi / 2]]))
    torch.testing.assert_close(rotation[0] @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0)


def test_points_are_turned_and_then_moved():
    motion = rigid_motion(so3_exp(torch.tensor([[0.0, 0.0, math.pi]])), torch.tensor([[1.0, 2.0, 3.0]]))
    moved = transform(motion, torch.tensor([1.0, 1.0, 1.0]).reshape(1, 3, 1, 1))
    torch.testing.assert_close(moved.flatten(), torch.tensor([0.0, 1.0, 4.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [0.0, 1e-4, 9.9e-3, 1.01e-2, 1.0])
def test_gradients_exist_everywhere_zero_included(size):
    twist = (size * torch.tensor([[0.3, -0.5, 0.8, 0.1, 0.2, 0.3]], dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(se3_exp, twist)


def test_wrong_shapes_are_refused():
    for call, shape in ((se3_exp, (6,)), (so3_exp, (1, 4)), (inverse, (1, 3, 4))):
        with pytest.raises(ValueError, match="need"):
            call(torch.zeros(shape))
