"""The paired test: sees a real gain, is not fooled by noise or by neighbours that look alike."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmde_ros.evaluation.paired import compare


def test_equal_networks_have_no_gain_and_no_significance():
    found = compare([0.3] * 40, [0.3] * 40)
    assert found.gain == 0
    assert found.p == pytest.approx(1)
    assert not found.better(0.0, 0.01)


def test_a_real_gain_is_seen():
    rng = np.random.default_rng(0)
    before = rng.uniform(0.2, 0.4, 40)
    found = compare(before, before * rng.uniform(0.8, 0.98, 40))
    assert found.better(0.01, 0.01)
    assert found.gain == pytest.approx(0.11, abs=0.03)
    back = compare(before * 0.9, before)
    assert back.worse(0.02, 0.01)
    assert not back.better(0.0, 0.01)


def test_a_gain_too_small_to_matter_is_none():
    before = np.full(40, 0.3)
    assert not compare(before, before * 0.999).better(0.01, 0.01)


def test_noise_promotes_as_rarely_as_p_says():
    promoted = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        before = rng.uniform(0.2, 0.4, 40)
        promoted += compare(before, before * np.exp(rng.normal(0, 0.1, 40)), seed).better(0.0, 0.05)
    assert promoted / 300 < 0.09


def test_noise_that_neighbours_share_is_not_taken_for_many_observations():
    promoted = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        shared = np.repeat(rng.normal(0, 0.1, 10), 5)
        promoted += compare(np.full(50, 0.3), 0.3 * np.exp(shared), seed).better(0.0, 0.05)
    assert promoted / 300 < 0.09


def candidates(seed, count, frames):
    """Errors of one start and of many students that are as good as it is, the best of them first."""
    rng = np.random.default_rng(seed)
    before = rng.uniform(0.2, 0.4, frames)
    students = [before * np.exp(rng.normal(0, 0.1, frames)) for _ in range(count)]
    return before, sorted(students, key=np.mean)


def test_the_best_of_many_is_promoted_by_luck_only_when_nobody_says_so():
    naive = honest = 0
    for seed in range(200):
        before, students = candidates(seed, 12, 10)
        naive += compare(before, students[0], seed).better(0.0, 0.05)
        rivals = [(before, student) for student in students[1:]]
        honest += compare(before, students[0], seed, rivals).better(0.0, 0.05)
    assert naive / 200 > 0.25
    assert honest / 200 < 0.09


def test_a_real_gain_is_seen_among_many():
    before, students = candidates(0, 12, 10)
    rivals = [(before, 0.7 * student) for student in students[1:]]
    assert compare(before, 0.7 * students[0], 0, rivals).better(0.01, 0.01)


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=60), st.integers(0, 100))
def test_p_is_a_probability(errors, seed):
    after = np.random.default_rng(seed).permutation(errors)
    found = compare(errors, list(after), seed)
    assert 0 < found.p <= 1
    assert found.frames == len(errors)


@pytest.mark.parametrize(("before", "after"), [([], []), ([1.0], [1.0, 2.0]), ([np.nan], [1.0]), ([0.0], [1.0])])
def test_what_cannot_be_compared_is_refused(before, after):
    with pytest.raises(ValueError, match="errors"):
        compare(before, after)
