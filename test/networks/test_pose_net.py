"""The pose network: its parts against closed forms, and what it has to promise before and after training."""

import pytest
import torch

from ssmde_ros.networks import PoseNet, load_pose_net, save_pose_net
from ssmde_ros.networks.pose_net import _correlation, _fit, _quadratics, _shrunk
from ssmde_ros.networks.weights import WeightsError
from ssmde_ros.resources import pose_weights


def lens(width, height, batch=1):
    k = torch.tensor([[0.9 * width, 0, (width - 1) / 2], [0, 0.9 * width, (height - 1) / 2], [0, 0, 1]])
    return k.expand(batch, 3, 3)


def test_it_is_lightweight():
    assert sum(p.numel() for p in PoseNet().parameters()) < 3e6


@pytest.mark.parametrize(("width", "height"), [(160, 128), (512, 160), (64, 64), (97, 201), (32, 32)])
def test_it_gives_rigid_motions_of_frames_of_any_size_and_starts_at_rest(width, height):
    torch.manual_seed(0)
    frames = torch.rand(2, 2, 3, height, width)
    motion = PoseNet()(*frames, lens(width, height, 2))
    torch.testing.assert_close(motion, torch.eye(4).expand(2, 4, 4))


def test_motions_are_rigid():
    torch.manual_seed(0)
    net = PoseNet()
    torch.nn.init.normal_(net.head[-1].weight)
    motion = net(torch.rand(2, 3, 80, 96), torch.rand(2, 3, 80, 96), lens(96, 80, 2))
    rotation = motion[:, :3, :3]
    assert (rotation - torch.eye(3)).abs().max() > 0.01
    torch.testing.assert_close(rotation @ rotation.transpose(1, 2), torch.eye(3).expand(2, 3, 3), atol=1e-5, rtol=0)
    assert motion[:, 3].tolist() == [[0, 0, 0, 1]] * 2


def test_it_learns_a_motion():
    torch.manual_seed(0)
    net = PoseNet()
    a, b = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    wanted = torch.tensor([0.3, -0.2, 0.5])
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    errors = []
    for _ in range(60):
        error = (net(a, b, lens(64, 64))[0, :3, 3] - wanted).norm()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.3 * errors[0]


@pytest.mark.parametrize("shape", [(1, 3, 64, 65), (1, 1, 64, 64), (3, 64, 64)])
def test_frames_that_do_not_match_are_refused(shape):
    with pytest.raises(ValueError, match=r"\[B, 3, H, W\]"):
        PoseNet()(torch.rand(1, 3, 64, 64), torch.rand(shape), lens(64, 64))


# --- its parts -----------------------------------------------------------------------------------


def test_correlation_compares_each_feature_with_its_neighbours():
    torch.manual_seed(0)
    a, b = torch.rand(2, 5, 6, 7, dtype=torch.float64), torch.rand(2, 5, 6, 7, dtype=torch.float64)
    found = _correlation(a, b, 2)
    assert found.shape == (2, 25, 6, 7)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            for y, x in ((0, 0), (3, 4), (5, 6)):
                inside = 0 <= y + dy < 6 and 0 <= x + dx < 7
                wanted = (a[:, :, y, x] * b[:, :, y + dy, x + dx]).sum(1) if inside else torch.zeros(2).double()
                torch.testing.assert_close(found[:, (dy + 2) * 5 + dx + 2, y, x], wanted)


def test_flow_is_the_shift_of_a_shifted_frame():
    # Features that are all different, three columns and one row farther on in the source.
    torch.manual_seed(0)
    features = torch.randn(1, 64, 20, 24)
    net = PoseNet()
    net.sharpness.data.fill_(5.0)
    flow, _ = net._flow(features, features.roll((1, 3), (2, 3)))
    inner = flow[0, :, 5:-5, 5:-5]
    torch.testing.assert_close(inner[0], torch.full_like(inner[0], 3.0), atol=0.01, rtol=0)
    torch.testing.assert_close(inner[1], torch.full_like(inner[1], 1.0), atol=0.01, rtol=0)


def test_the_flow_of_a_turning_camera_and_of_a_plane_leaves_no_parallax():
    basis = _quadratics(lens(96, 80).double(), 20, 24)
    assert basis[0, 1].mean().abs() < 1e-9, "the image is centred"
    assert basis[0, 1, 0, -1].item() == pytest.approx((93.5 - 47.5) / 86.4)
    x, y = basis[:, 1], basis[:, 2]
    # Longuet-Higgins & Prazdny 1980: small rotation (a, b, c), and travel (u, v, w) before the plane 1/Z = p + q x + r y.
    a, b, c, u, v, w, p, q, r = 0.02, -0.03, 0.05, 0.1, 0.2, -0.3, 0.5, 0.2, -0.1
    near = p + q * x + r * y
    flow = torch.stack(
        [
            near * (-u + x * w) + a * x * y - b * (1 + x * x) + c * y,
            near * (-v + y * w) + a * (1 + y * y) - b * x * y - c * x,
        ],
        1,
    )
    polynomial, rest = _fit(flow, basis, torch.ones(1, 1, 20, 24).double())
    assert rest.abs().max() < 1e-3 * flow.abs().max()
    assert polynomial[0, 0, 0].item() == pytest.approx(-p * u - b, abs=1e-3)
    assert polynomial[0, 0, 1].item() == pytest.approx(-p * v + a, abs=1e-3)


def test_what_is_not_trusted_has_no_say_in_the_polynomial():
    basis = _quadratics(lens(96, 80).double(), 20, 24)
    flow = torch.stack([0.1 * basis[:, 1], 0.2 * basis[:, 2]], 1)
    weight = torch.ones(1, 1, 20, 24).double()
    flow[..., :5, :5], weight[..., :5, :5] = 9.0, 0.0
    polynomial, rest = _fit(flow, basis, weight)
    assert polynomial[0, 1, 0].item() == pytest.approx(0.1, abs=0.02)
    assert rest[..., 6:, 6:].abs().max() < 0.05
    assert rest[..., :4, :4].abs().min() > 8


@pytest.mark.parametrize(("width", "height"), [(192, 160), (640, 192), (480, 640)])
def test_a_shrunk_frame_keeps_its_rays(width, height):
    k = lens(width, height)
    images, smaller = _shrunk(torch.rand(2, 3, height, width), k)
    h, w = images.shape[2:]
    assert h % 8 == w % 8 == 0
    assert 0.7 < h * w / (96 * 80) < 1.4
    for (u, v), (s, t) in (((-0.5, -0.5), (-0.5, -0.5)), ((width - 0.5, height - 0.5), (w - 0.5, h - 0.5))):
        ray = torch.linalg.inv(k) @ torch.tensor([u, v, 1.0])
        torch.testing.assert_close(torch.linalg.inv(smaller) @ torch.tensor([s, t, 1.0]), ray)


# --- its weights ---------------------------------------------------------------------------------


def test_weights_come_back_as_they_were(tmp_path):
    torch.manual_seed(0)
    net = PoseNet()
    torch.nn.init.normal_(net.head[-1].weight)
    save_pose_net(net, tmp_path / "pose.safetensors", {"data": "none"})
    again = load_pose_net(tmp_path / "pose.safetensors")
    frames = torch.rand(2, 1, 3, 80, 96)
    assert not again.training
    torch.testing.assert_close(again(*frames, lens(96, 80)), net(*frames, lens(96, 80)))


def test_other_files_are_refused_in_one_line(tmp_path):
    from ssmde_ros.resources import default_weights

    with pytest.raises(WeightsError, match="is not a pose network"):
        load_pose_net(default_weights())
    with pytest.raises(WeightsError, match="does not exist"):
        load_pose_net(tmp_path / "nowhere.safetensors")
    net = PoseNet()
    net.head[-1].bias.data[0] = float("nan")
    with pytest.raises(WeightsError, match="NaN"):
        save_pose_net(net, tmp_path / "bad.safetensors", {})
    assert not (tmp_path / "bad.safetensors").exists()


def test_it_runs_in_double_and_in_half_precision_alike():
    net = load_pose_net(pose_weights())
    frames = torch.rand(2, 1, 3, 80, 96, generator=torch.Generator().manual_seed(0))
    plain = net(*frames, lens(96, 80))
    with torch.autocast("cpu", torch.bfloat16):
        half = net(*frames, lens(96, 80))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, plain, atol=0.05, rtol=0)
    torch.testing.assert_close(net.double()(*frames.double(), lens(96, 80).double()).float(), plain, atol=1e-4, rtol=0)
