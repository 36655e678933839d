"""Schedules: forgetting, warm-up and cosine, ramps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmde_ros.training.schedules import Forgetting, Ramp, WarmupCosine


def test_forgetting_is_a_power_of_gamma_with_a_floor():
    forget = Forgetting(0.5, 0.8, 0.1)
    assert forget[0] == 0.5
    assert forget[1.5] == pytest.approx(0.5 * 0.8**1.5)
    assert forget[100] == 0.1
    assert Forgetting(0.5)[1e6] == 0.5, "gamma 1 never forgets"
    assert Forgetting(0.5, 0.8)[1e6] == 0
    assert Forgetting(0.0, 0.8, 0.3)[0] == 0, "a term that is off stays off, whatever its floor"


@given(start=st.floats(0, 100), gamma=st.floats(0.01, 1), floor=st.floats(0, 100), epoch=st.floats(0, 1000))
def test_forgetting_stays_between_floor_and_start_and_never_rises(start, gamma, floor, epoch):
    forget = Forgetting(start, gamma, floor)
    assert min(floor, start) <= forget[epoch] <= start
    assert forget[epoch + 1] <= forget[epoch]


def test_warm_up_then_flat_then_a_cosine():
    rate = WarmupCosine(0.1, 0.5, 0.2)
    assert rate[0] == 0
    assert rate[0.05] == pytest.approx(0.5)
    assert rate[0.1] == rate[0.3] == rate[0.5] == 1
    assert rate[0.75] == pytest.approx(0.6), "half way down"
    assert rate[1] == pytest.approx(0.2)
    assert rate[7] == rate[1], "a run that overshoots does not rise again"
    assert rate[-1] == rate[0]
    assert WarmupCosine(0.0, 0.0, 0.0)[0] == 1, "no warm-up starts at full rate"


@given(progress=st.floats(-1, 2), warmup=st.floats(0, 0.4), flat=st.floats(0.4, 0.99), end=st.floats(0, 1))
def test_the_rate_is_a_factor(progress, warmup, flat, end):
    assert 0 <= WarmupCosine(warmup, flat, end)[progress] <= 1


def test_a_ramp_waits_then_rises():
    ramp = Ramp(0.4, begin=2, length=4)
    assert [ramp[e] for e in (0, 1.99, 2, 4, 6, 60)] == pytest.approx([0, 0, 0, 0.2, 0.4, 0.4])
    assert Ramp(0.4)[0] == 0.4
    assert Ramp(0.4, begin=1)[0.999] == 0
    assert Ramp(0.4, begin=1)[1] == 0.4


@pytest.mark.parametrize(
    "make",
    [
        lambda: Forgetting(-1),
        lambda: Forgetting(1, 0),
        lambda: Forgetting(1, 1.1),
        lambda: Forgetting(1, 0.5, -0.1),
        lambda: WarmupCosine(-0.1),
        lambda: WarmupCosine(0.5, 0.3),
        lambda: WarmupCosine(0, 1),
        lambda: WarmupCosine(end=2),
    ],
)
def test_schedules_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="need"):
        make()
