"""A recording that cannot teach is told why before the training, and one that can is left in peace."""

from dataclasses import replace

import numpy as np
import pytest

from ssmde_ros.data.checkup import checkup, lens_factor
from test.data.test_key_frames import clip, look

COUNT = 16


@pytest.fixture(scope="module")
def travelling():
    """Sideways, and nodding."""
    return clip([look(0.08 * i, pitch=0.08 * np.sin(0.5 * i)) for i in range(COUNT)])


def with_lens(recording, factor):
    camera = recording.tracking_camera
    return replace(recording, tracking_camera=replace(camera, fx=camera.fx * factor, fy=camera.fy * factor))


def test_a_travelling_camera_has_nothing_to_be_told(travelling):
    assert checkup(travelling, (1, 2)) == []


def test_a_camera_that_only_turns(travelling):
    (line,) = checkup(clip([look(0.0, 0.02 * i) for i in range(COUNT)]), (1, 2))
    assert "turns but never translates" in line


def test_a_camera_that_stands():
    noise = np.random.default_rng(0)
    views = [np.clip(look() + noise.normal(0, 2, (240, 320)), 0, 255).astype(np.uint8) for _ in range(COUNT)]
    (line,) = checkup(clip(views), (1, 2))
    assert "never translates" in line
    assert "larger gaps" in line


def test_darkness():
    lines = checkup(clip([np.full((240, 320), 2, np.uint8)] * COUNT), (1,))
    assert any("too dark" in line and "more light" in line for line in lines)


def test_two_identical_frames_are_counted(travelling):
    twice = clip([*travelling.tracking[:8], travelling.tracking[7], *travelling.tracking[8:]])
    assert checkup(twice, (1, 2)) == [f"1 of {COUNT + 1} frames repeat the one before; they teach nothing"]


@pytest.mark.parametrize("wrong", [0.35, 3.0])
def test_a_wrong_focal_length_shows_where_the_camera_turns(travelling, wrong):
    factor, before, after = lens_factor(with_lens(travelling, wrong), 4)
    assert (factor > 1) == (wrong < 1)
    assert factor != 1
    assert after > before
    assert "are the intrinsics right?" in checkup(with_lens(travelling, wrong), (1, 2))[0]


def test_the_right_one_is_believed(travelling):
    assert lens_factor(travelling, 4)[0] == 1


def test_too_few_matches_say_nothing():
    assert lens_factor(clip([look()] * 3), 2) == (1.0, 0.0, 0.0)
