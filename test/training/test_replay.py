from pathlib import Path

import numpy as np
import pytest
import torch

from ssmde_ros.data.clip import Clip
from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import PinholeCamera
from ssmde_ros.networks import DepthNet, load_depth_net
from ssmde_ros.training.replay import (
    FILE,
    Replay,
    earlier_images,
    spread,
    synthetic_images,
    with_variations,
    write_buffer,
)

RNG = np.random.default_rng(0)
BUFFER = RNG.integers(0, 256, (8, 64, 96, 3), np.uint8)


class Scaled(torch.nn.Module):
    """The depth of a network, times a factor: a student after odometry changed the unit."""

    def __init__(self, net: DepthNet, factor: float) -> None:
        super().__init__()
        self.net, self.factor = net, factor

    def depth(self, image: torch.Tensor) -> torch.Tensor:
        return self.factor * self.net.depth(image)


def clip(count: int, size: tuple[int, int] = (64, 96)) -> Clip:
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 3, *size).contiguous()
    camera = PinholeCamera.from_hfov(size[1], size[0], 1.0)
    return Clip("numbered", images, camera, np.arange(count), [str(n) for n in range(count)])


def test_what_the_parent_says_costs_nothing_in_any_unit_and_anything_else_does(weights):
    net = load_depth_net(weights)[0]
    replay = Replay(BUFFER, net, 96, 64, 1.0, 4)
    assert replay.loss(net, 0).item() == pytest.approx(0, abs=1e-5)
    assert replay.loss(Scaled(net, 3.0), 0).item() == pytest.approx(0, abs=1e-5)
    with torch.no_grad():
        for parameter in net.decoder.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    assert replay.loss(net, 0).item() > 1e-3


def test_a_step_always_gets_the_same_images_and_all_have_their_turn(weights):
    net = load_depth_net(weights)[0]
    replay = Replay(BUFFER, net, 96, 64, 1.0, 4)
    seen = []
    original = net.depth
    net.depth = lambda images: seen.append(images.clone()) or original(images)
    for step in (0, 0, 1):
        replay.loss(net, step)
    assert torch.equal(seen[0], seen[1])
    shown = torch.cat([seen[0], *seen[2:]])
    assert all(any(torch.equal(image, other) for other in shown) for image in replay.images.float() / 255)


def test_variations_keep_the_buffer_and_are_the_same_each_time():
    own = RNG.integers(0, 256, (3, 48, 64, 3), np.uint8)
    first, again = with_variations(BUFFER, own, 3), with_variations(BUFFER, own, 3)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[:8], BUFFER)
    assert first.shape == (32, 64, 96, 3) and first.dtype == np.uint8
    assert len({image.tobytes() for image in first}) == 32


def test_images_are_spread_over_all_clips():
    found = spread([clip(10), clip(10)], 4)
    assert found.shape == (4, 64, 96, 3)
    assert [int(image[0, 0, 0]) for image in found] == [0, 6, 2, 9]
    assert len(spread([clip(3)], 10)) == 3


def test_a_buffer_holds_half_of_what_was_and_half_of_what_is(tmp_path):
    write_buffer(tmp_path / FILE, BUFFER, [clip(10, (32, 64))], 6)
    back = earlier_images(tmp_path, 48, 96, 64)
    assert back.shape == (6, 32, 64, 3)
    assert [int(image.max()) for image in back[3:]] == [0, 4, 9]
    write_buffer(tmp_path / FILE, None, [clip(10)], 6)
    assert len(earlier_images(tmp_path, 4, 96, 64)) == 4


def test_without_a_buffer_there_are_synthetic_scenes(tmp_path):
    found = earlier_images(tmp_path, 3, 64, 32)
    np.testing.assert_array_equal(found, synthetic_images(3, 64, 32))
    assert found.shape == (3, 32, 64, 3) and all(image.std() > 5 for image in found)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.write_bytes(b"no archive"), "cannot be read"),
        (lambda path: np.savez(path.open("wb"), other=BUFFER), "cannot be read"),
        (lambda path: np.savez(path.open("wb"), images=BUFFER.astype(np.float32)), "float32"),
        (lambda path: np.savez(path.open("wb"), images=BUFFER[:0]), "holds uint8"),
    ],
)
def test_a_bad_buffer_is_refused_with_its_path(tmp_path, spoil, says):
    path: Path = tmp_path / FILE
    spoil(path)
    with pytest.raises(SsmdeError, match=says) as refused:
        earlier_images(tmp_path, 4, 96, 64)
    assert str(path) in str(refused.value)
