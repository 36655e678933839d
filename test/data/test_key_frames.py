"""Key frames are those whose neighbours show parallax; the rest is told apart by its reason."""

import cv2
import numpy as np
import pytest
import torch

from ssmde_ros.data.clip import Clip
from ssmde_ros.data.key_frames import KeyFrameConfig, KeyFrameError, choose_key_frames, require_key_frames, summary
from ssmde_ros.data.parallax import ParallaxMeter, fit_rotation
from ssmde_ros.geometry import PinholeCamera

CAMERA = PinholeCamera(320, 240, 300.0, 300.0, 160.0, 120.0)


def texture(seed, size=(1500, 2000)):
    rng = np.random.default_rng(seed)
    image = sum(
        cv2.resize(rng.normal(size=(size[0] // n, size[1] // n)).astype(np.float32), size[::-1]) * n**0.5
        for n in (4, 16, 64)
    )
    return np.clip(128 + 25 * image / image.std() * 1.5, 0, 255).astype(np.uint8)


PICTURES = [texture(seed) for seed in range(4)]
DEPTHS = (8.0, 5.0, 3.0, 2.0)  # metres; each board covers the right part of the one behind it


def look(x=0.0, yaw=0.0, pitch=0.0):
    """Four boards, one before the other, seen from x metres to the right and turned by yaw and pitch."""
    turn = cv2.Rodrigues(np.array([pitch, yaw, 0.0]))[0]
    k = np.array([[CAMERA.fx, 0, CAMERA.cx], [0, CAMERA.fy, CAMERA.cy], [0, 0, 1]])

    def board(picture, depth):
        # Point (u, v) of the picture lies at ((u - 1000) / ppm, (v - 750) / ppm, depth); one pixel there is one here.
        ppm = CAMERA.fx / depth
        plane = np.array([[1 / ppm, 0, -1000 / ppm - x], [0, 1 / ppm, -750 / ppm], [0, 0, depth]])
        return cv2.warpPerspective(picture, k @ turn @ plane, (320, 240))

    image = np.zeros((240, 320), np.uint8)
    for number, (picture, depth) in enumerate(zip(PICTURES, DEPTHS, strict=True)):
        left = 0 if number == 0 else 840 + 80 * number
        covers = np.pad(np.full((1500, 2000 - left), 255, np.uint8), ((0, 0), (left, 0)))
        image = np.where(board(covers, depth) > 127, board(picture, depth), image)
    return image.astype(np.uint8)


def clip(images):
    colors = torch.from_numpy(np.stack(images))[:, None].expand(-1, 3, -1, -1)
    return Clip(
        "test",
        colors,
        CAMERA,
        np.arange(len(images)) * 10**8,
        [str(i) for i in range(len(images))],
        list(images),
        CAMERA,
    )


def refused(images, **config):
    settings = KeyFrameConfig(**config)
    with pytest.raises(KeyFrameError) as error:
        require_key_frames([choose_key_frames(clip(images), settings)], "test", settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_rotation_is_found_and_leaves_nothing():
    rng = np.random.default_rng(0)
    rays = rng.normal(size=(50, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    turn = cv2.Rodrigues(np.array([0.02, -0.1, 0.05]))[0]
    angle, left = fit_rotation(rays, rays @ turn.T)
    assert angle == pytest.approx(np.linalg.norm([0.02, -0.1, 0.05]), abs=1e-6)
    assert left.max() < 1e-6


def test_parallax_is_what_turning_does_not_explain():
    meter = ParallaxMeter([look(), look(yaw=0.05), look(x=0.1), look(x=0.1, yaw=0.05)], CAMERA)
    turned, moved, both = meter.between(0, 1), meter.between(0, 2), meter.between(0, 3)
    assert turned.turn == pytest.approx(0.05, abs=0.002)
    assert turned.angle < np.radians(0.1)
    # The board moves by 0.1 / 2 radians, the wall by 0.1 / 8: their difference is not a turn.
    assert moved.angle > np.radians(0.5)
    assert both.angle == pytest.approx(moved.angle, rel=0.3)


def test_a_travelling_camera_gives_key_frames_and_the_gap_follows_its_speed():
    slow = choose_key_frames(clip([look(x=0.006 * i) for i in range(40)]))
    fast = choose_key_frames(clip([look(x=0.03 * i) for i in range(40)]))
    assert len(slow.gaps) > 20
    assert len(fast.gaps) > 30
    assert np.mean([np.mean(g) for g in slow.gaps.values()]) > 1.5 * np.mean([np.mean(g) for g in fast.gaps.values()])
    for t, gaps in {**slow.gaps, **fast.gaps}.items():
        assert all(0 <= t - g and t + g < 40 for g in gaps)
    assert "key frames" in summary([slow])


def test_a_still_camera_is_refused_with_advice():
    assert "the camera never translates" in refused([look()] * 30)


def test_a_turning_camera_is_refused_with_advice():
    images = [look(yaw=0.02 * np.sin(i / 3) * 3) for i in range(30)]
    assert "turns but never translates" in refused(images)


def test_the_dark_the_bright_and_the_blurred_are_told_apart():
    images = [look(x=0.06 * i) for i in range(30)]
    images[5] = np.zeros_like(images[5])
    images[10] = np.full_like(images[10], 255)
    images[15] = cv2.blur(images[15], (9, 9))
    found = choose_key_frames(clip(images))
    assert {n: found.rejected.get(n) for n in (5, 10, 15)} == {5: "dark", 10: "bright", 15: "blurred"}
    # None of them is a source either.
    assert not any({t - g, t + g} & {5, 10, 15} for t, gaps in found.gaps.items() for g in gaps)


def test_a_dark_recording_is_refused_as_dark():
    assert "record with more light" in refused([np.zeros((240, 320), np.uint8)] * 30)


def test_frames_without_anything_in_common_are_refused_as_lost():
    assert "higher frame rate" in refused([texture(i, (240, 320)) for i in range(30)])


def test_few_frames_are_refused():
    assert "8 can teach; at least 20 must" in refused([look(x=0.03 * i) for i in range(10)], min_frames=20)


@pytest.mark.parametrize("bad", [{"gaps": ()}, {"gaps": (2, 1)}, {"min_parallax": 0.0}, {"min_tracked": 1.0}])
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="key_frames"):
        KeyFrameConfig(**bad)
