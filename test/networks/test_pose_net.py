import pytest
import torch

from ssmde_ros.networks import PoseNet


def test_it_is_lightweight():
    assert sum(p.numel() for p in PoseNet().parameters()) < 3e6


def test_it_gives_rigid_motions_that_start_small():
    torch.manual_seed(0)
    motion = PoseNet()(torch.rand(2, 3, 128, 160), torch.rand(2, 3, 128, 160))
    assert motion.shape == (2, 4, 4)
    rotation = motion[:, :3, :3]
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).expand(2, 3, 3), atol=1e-5, rtol=0)
    assert motion[:, :3, 3].norm(dim=1).max() < 0.1
    assert motion[:, 3].tolist() == [[0, 0, 0, 1]] * 2


def test_it_learns_a_motion():
    torch.manual_seed(0)
    net = PoseNet()
    a, b = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    wanted = torch.tensor([0.3, -0.2, 0.5])
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    errors = []
    for _ in range(60):
        error = (net(a, b)[0, :3, 3] - wanted).norm()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.3 * errors[0]


@pytest.mark.parametrize("shape", [(1, 3, 64, 65), (1, 1, 64, 64), (3, 64, 64)])
def test_frames_that_do_not_match_are_refused(shape):
    with pytest.raises(ValueError, match=r"\[B, 3, H, W\]"):
        PoseNet()(torch.rand(1, 3, 64, 64), torch.rand(shape))
