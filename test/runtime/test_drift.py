"""The drift monitor says nothing of what it knows, and in words what it does not know."""

import numpy as np
import pytest

from ssmde_ros.networks.reference import depth_thumbnail, describe, reference
from ssmde_ros.runtime.drift import DriftMonitor


def pictures(count, level=120, spread=40, seed=0):
    rng = np.random.default_rng(seed)
    return [np.clip(rng.normal(level, spread, (96, 128, 3)), 0, 255).astype(np.uint8) for _ in range(count)]


def depth(seed=0, noise=0.0):
    rng = np.random.default_rng(seed)
    return np.tile(np.geomspace(1, 20, 128), (96, 1)) * np.exp(noise * rng.normal(size=(96, 128)))


@pytest.fixture
def known():
    before, seen = None, []
    for image in pictures(30):
        seen.append(describe(image, depth(), before))
        before = depth_thumbnail(depth())
    return reference(seen)


def watched(known, images, noise=0.0):
    monitor = DriftMonitor(known)
    for number, image in enumerate(images):
        monitor.observe(image, depth(number, noise))
    return monitor


def test_what_it_was_trained_on_is_no_drift(known):
    monitor = watched(known, pictures(40, seed=1))
    assert monitor.advice() == ""
    assert monitor.score() < 2


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ({"level": 15, "spread": 10}, "darker"),
        ({"level": 235, "spread": 15}, "brighter"),
        ({"spread": 2}, "less detail"),
    ],
)
def test_other_pictures_are_drift_and_the_reason_is_named(known, images, said):
    advice = watched(known, pictures(80, **images)).advice()
    assert advice.startswith("fine-tuning advised: ")
    assert said in advice


def test_depth_that_flickers_is_drift(known):
    assert "flickers more" in watched(known, pictures(60), noise=0.3).advice()


def test_a_handful_of_frames_is_no_drift(known):
    assert watched(known, pictures(5, level=15)).advice() == ""


def test_weights_without_a_reference_are_not_judged():
    assert watched({}, pictures(40)).advice() == ""


def test_unknown_depth_is_left_out():
    holes = depth()
    holes[:, 64:] = np.inf
    found = describe(pictures(1)[0], holes, depth_thumbnail(depth()))
    assert all(np.isfinite(v) for v in found.values())
    assert "depth_spread" in found
