"""Whether a new student replaces the old one."""

import numpy as np

from ssmde_ros.training.holdout import Errors
from ssmde_ros.training.verdict import judge


def errors_of(**measures):
    return Errors(**{k: {(0, i): v for i, v in enumerate(values)} for k, values in measures.items()})


def test_depth_decides_where_it_is_known():
    rng = np.random.default_rng(0)
    old = rng.uniform(0.2, 0.3, 20)
    better = judge(errors_of(depth=old, photometric=old), errors_of(depth=old * 0.8, photometric=old * 1.2), 0.01, 0.01)
    assert better.promoted
    assert better.deciding == "depth"
    worse = judge(errors_of(depth=old, photometric=old), errors_of(depth=old * 1.2, photometric=old * 0.8), 0.01, 0.01)
    assert not worse.promoted


def test_without_depth_no_measure_may_become_worse():
    old = np.random.default_rng(0).uniform(0.2, 0.3, 20)
    found = judge(
        errors_of(points=old, photometric=old), errors_of(points=old * 0.8, photometric=old * 1.2), 0.01, 0.01
    )
    assert not found.promoted
    assert "photometric error became worse" in found.reason


def test_too_few_frames_judge_nothing():
    found = judge(errors_of(depth=[0.3] * 5), errors_of(depth=[0.1] * 5), 0.01, 0.01)
    assert not found.promoted
    assert "too little was held out" in found.reason


def test_metres_may_not_become_worse():
    old = np.random.default_rng(0).uniform(0.2, 0.3, 20)
    found = judge(errors_of(depth=old, metric=old), errors_of(depth=old * 0.8, metric=old * 1.3), 0.01, 0.01)
    assert not found.promoted
    assert "in metres" in found.reason
    assert judge(errors_of(depth=old, metric=old), errors_of(depth=old * 0.8, metric=old * 0.9), 0.01, 0.01).promoted


def test_a_student_chosen_by_the_frames_that_judge_it_needs_more_than_luck():
    rng = np.random.default_rng(1)
    old = rng.uniform(0.2, 0.3, 10)
    students = sorted((old * np.exp(rng.normal(0, 0.1, 10)) for _ in range(60)), key=np.mean)
    before, after = errors_of(depth=old), errors_of(depth=students[0])
    assert judge(before, after, 0.01, 0.05).promoted
    looks = [(before, errors_of(depth=student)) for student in students]
    found = judge(before, after, 0.01, 0.05, looks)
    assert not found.promoted
    assert "may be luck" in found.reason
    real = [(before, errors_of(depth=0.7 * student)) for student in students]
    assert judge(before, real[0][1], 0.01, 0.05, real).promoted
