"""What holds the scale of a depth when nothing else does."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssmde_ros.networks import DepthNet, DepthNetConfig
from ssmde_ros.training.losses import mean_depth, scale_loss
from ssmde_ros.training.run import depth_at_first
from test.training.scenes import still_clip


def test_mean_depth_is_harmonic():
    depth = torch.tensor([[1.0, 3.0], [2.0, 2.0]]).reshape(2, 1, 1, 2)
    assert mean_depth(depth).tolist() == pytest.approx([1.5, 2.0])


@given(factor=st.floats(0.05, 20), start=st.floats(0.1, 50))
def test_the_term_is_the_squared_log_of_how_far_the_scale_went(factor, start):
    depth = torch.full((2, 1, 4, 4), start * factor, dtype=torch.float64)
    assert scale_loss(depth, start).item() == pytest.approx(math.log(factor) ** 2, abs=1e-9)


def test_one_image_may_be_deeper_than_another():
    # Inverse depths 1/2 and 3/2: their mean is that of the start.
    depth = torch.tensor([2.0, 2 / 3], dtype=torch.float64).reshape(2, 1, 1, 1).expand(2, 1, 4, 4)
    assert scale_loss(depth, 1.0).item() == pytest.approx(0, abs=1e-12)


def test_its_gradient():
    depth = (torch.rand(2, 1, 3, 3, dtype=torch.float64) + 0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: scale_loss(d, 3.0), depth)


def test_the_start_is_measured_on_frames_of_every_clip():
    torch.manual_seed(0)
    net = DepthNet(DepthNetConfig(input_width=64, input_height=64))
    for head in net.decoder.heads:
        torch.nn.init.normal_(head.weight)  # depth that depends on the picture
    pictures = [torch.zeros(3, 64, 96, dtype=torch.uint8), torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8)]
    with torch.inference_mode():
        one, two = (1 / net.eval().depth(picture[None].float() / 255) for picture in pictures)
    assert not torch.allclose(one.mean(), two.mean(), rtol=0.01)
    found = depth_at_first(net.train(), [still_clip(picture) for picture in pictures])
    assert found == pytest.approx(2 / (one.mean() + two.mean()).item(), rel=1e-4)
