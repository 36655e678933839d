"""What the pose network is taught before it meets a recording."""

import math

import pytest
import torch

from ssmde_ros.data.lessons import draw_lessons
from ssmde_ros.geometry import se3_exp
from ssmde_ros.networks import PoseNet, load_pose_net
from ssmde_ros.networks.pose_net import PoseReading
from ssmde_ros.resources import pose_weights
from ssmde_ros.training.pose_lessons import draw_pictures, lesson_loss, read_pictures, train
from ssmde_ros.training.supervised import HELD_OUT_SEED


@pytest.fixture(scope="module")
def pictures():
    return draw_pictures(3)


@pytest.fixture(scope="module")
def lessons(pictures):
    return draw_lessons(pictures, 8, torch.Generator().manual_seed(5))


class Pupil:
    """Answers with the truth, after a mistake."""

    def __init__(self, lessons, mistake=None, flow=0.0):
        self.lessons, self.flow = lessons, flow
        self.mistake = torch.zeros(6) if mistake is None else torch.tensor(mistake)

    def read(self, target, source, intrinsics):
        motion = self.lessons.motion.clone()
        off = se3_exp(self.mistake[None])
        motion[:, :3, :3] = motion[:, :3, :3] @ off[:, :3, :3]
        motion[:, :3, 3] += off[:, :3, 3]
        wrong = self.lessons.flow + self.flow / self.lessons.intrinsics[:, (0, 1), (0, 1), None, None]
        return PoseReading(motion, wrong, wrong, torch.ones_like(wrong[:, :1]))


def test_the_right_answer_costs_nothing(lessons):
    assert all(value.item() == pytest.approx(0, abs=2e-3) for value in lesson_loss(Pupil(lessons), lessons).values())


def test_mistakes_cost_as_many_pixels_as_they_are(lessons):
    focal = lessons.intrinsics[:, 0, 0].mean().item()
    turned = lesson_loss(Pupil(lessons, [0.0, 0.02, 0.0, 0.0, 0.0, 0.0]), lessons)
    assert turned["turn"].item() == pytest.approx(focal * 2 * math.sin(0.01), rel=1e-2)
    assert turned["travel"].item() < 1e-2
    moved = lesson_loss(Pupil(lessons, [0.0, 0.0, 0.0, 0.03, 0.0, 0.04]), lessons)
    assert moved["travel"].item() == pytest.approx(focal * 0.05, rel=1e-2)
    flowed = lesson_loss(Pupil(lessons, flow=1.5), lessons)
    assert flowed["flow"].item() == pytest.approx(
        1.5 * (1 + (lessons.intrinsics[:, 0, 0] / lessons.intrinsics[:, 1, 1]).mean().item()), rel=0.1
    )


def test_pictures_come_from_recordings_and_from_the_synthetic_world(tmp_path, pictures):
    import cv2
    import numpy as np

    from ssmde_ros.networks import load_depth_net
    from ssmde_ros.resources import default_weights

    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((120, 160, 3), 40 * number, np.uint8))
    found = read_pictures([tmp_path], 2, load_depth_net(default_weights())[0])
    assert [round(p.image.mean().item() * 255) for p in found] == [0, 80, 160]
    for picture in (*found, *pictures):
        assert picture.image.shape == (3, 192, 256)
        assert picture.inverse_depth.shape == (1, 192, 256)
        assert torch.isfinite(picture.inverse_depth).all()
        assert (picture.inverse_depth > 0).all()


@pytest.mark.slow
def test_a_run_learns_resumes_and_writes_weights(tmp_path, pictures):
    out, work = tmp_path / "pose.safetensors", tmp_path / "work"
    train(pictures, out, work, steps=3, minutes=5, batch_size=2)
    first = load_pose_net(out)
    # Over already: had it begun anew, the other pictures would show.
    train(pictures[:1], out, work, steps=3, minutes=5, batch_size=2)
    again = load_pose_net(out)
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor)
    assert any(
        not torch.equal(a, b) for a, b in zip(PoseNet().state_dict().values(), first.state_dict().values(), strict=True)
    )


def test_the_shipped_pose_network_knows_motions_of_pictures_it_has_not_seen():
    net, nothing = load_pose_net(pose_weights()), PoseNet().eval()
    found = draw_lessons(draw_pictures(6, HELD_OUT_SEED), 48, torch.Generator().manual_seed(0))
    with torch.no_grad():
        knows, guesses = lesson_loss(net, found), lesson_loss(nothing, found)
    assert knows["turn"] < 0.6 * guesses["turn"]
    assert knows["travel"] < 0.8 * guesses["travel"]
    assert knows["flow"] < 0.6 * guesses["flow"]
