import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.runtime.upsample import DepthUpsampler


@settings(max_examples=40, deadline=None)
@given(
    near=st.floats(0.2, 20),
    ratio=st.floats(1.3, 50),
    column=st.integers(1, 9),
    zoom=st.sampled_from([1.5, 2.0, 2.5, 3.7]),
)
def test_no_depth_is_invented_at_a_step(near, ratio, column, zoom):
    depth = np.full((8, 10), near, np.float32)
    depth[:, column:] *= np.float32(ratio)
    large = DepthUpsampler((round(8 * zoom), round(10 * zoom)))(depth)
    assert set(np.unique(large)) == set(np.unique(depth))


def test_a_slope_stays_smooth():
    depth = np.broadcast_to(np.linspace(2, 2.5, 16, dtype=np.float32), (12, 16)).copy()
    large = DepthUpsampler((48, 64))(depth)
    assert np.abs(np.diff(large, axis=1)).max() < 0.5 / 15 / 3.9
    assert len(np.unique(large[0])) > 48


def test_the_step_lies_where_it_lay():
    depth = np.full((8, 8), 1.0, np.float32)
    depth[:, 4:] = 10
    large = DepthUpsampler((16, 16))(depth)
    assert (large[:, :8] == 1).all()
    assert (large[:, 8:] == 10).all()


def test_depth_of_the_right_size_is_passed_on_unharmed():
    depth = np.random.default_rng(0).random((6, 7)).astype(np.float32)
    out = DepthUpsampler((6, 7))(depth)
    assert np.array_equal(out, depth)
    assert not np.shares_memory(out, depth)


def test_a_step_ratio_of_one_is_refused():
    with pytest.raises(ValueError, match="above 1"):
        DepthUpsampler((4, 4), 1.0)
