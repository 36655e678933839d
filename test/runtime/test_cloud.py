import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.geometry import PinholeCamera, back_project
from ssmde_ros.runtime import CloudBuilder, CloudConfig

CAMERA = PinholeCamera(9, 7, 5.0, 6.0, 3.7, 3.1)
RNG = np.random.default_rng(1)
DEPTH = RNG.uniform(0.5, 9, (7, 9)).astype(np.float32)
IMAGE = RNG.integers(0, 256, (7, 9, 3), dtype=np.uint8)


def test_points_are_the_back_projection():
    points = CloudBuilder(CAMERA, CloudConfig())(DEPTH, IMAGE)
    expected = back_project(torch.from_numpy(DEPTH)[None, None], CAMERA.matrix()[None])[0].permute(1, 2, 0)
    np.testing.assert_allclose(points[..., :3], expected.numpy(), rtol=1e-5, atol=1e-5)


def test_colors_are_packed_as_pcl_packs_them():
    points = CloudBuilder(CAMERA, CloudConfig())(DEPTH, IMAGE)
    packed = np.ascontiguousarray(points[..., 3]).view(np.uint32)
    r, g, b = (IMAGE[..., i].astype(np.uint32) for i in range(3))
    assert np.array_equal(packed & 0xFFFFFF, r << 16 | g << 8 | b)


def test_without_color_a_point_has_twelve_bytes():
    assert CloudBuilder(CAMERA, CloudConfig(color=False))(DEPTH, IMAGE).shape == (7, 9, 3)


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
def test_unknown_depth_is_nan_when_organised_and_absent_when_sparse(hole):
    depth = DEPTH.copy()
    depth[2, 3] = hole
    organised = CloudBuilder(CAMERA, CloudConfig())(depth, IMAGE)
    assert np.isnan(organised[2, 3, :3]).all()
    assert np.isfinite(organised[..., :3]).sum() == 3 * (7 * 9 - 1)
    sparse = CloudBuilder(CAMERA, CloudConfig(organised=False))(depth, IMAGE)
    assert sparse.shape == (7 * 9 - 1, 4)
    assert np.isfinite(sparse[:, :3]).all()


@settings(max_examples=30, deadline=None)
@given(step=st.integers(1, 12), organised=st.booleans(), color=st.booleans())
def test_decimation_keeps_every_nth_pixel(step, organised, color):
    full = CloudBuilder(CAMERA, CloudConfig(color=color))(DEPTH, IMAGE).copy()
    thin = CloudBuilder(CAMERA, CloudConfig(color=color, organised=organised, decimation=step))(DEPTH, IMAGE)
    expected = full[::step, ::step]
    assert np.array_equal(thin.view(np.uint32), expected.reshape(thin.shape).view(np.uint32))


def test_range_limits_leave_points_out():
    sparse = CloudBuilder(CAMERA, CloudConfig(organised=False, min_range=2.0, max_range=5.0))(DEPTH, IMAGE)
    assert len(sparse) == ((DEPTH > 2) & (DEPTH < 5)).sum()
    assert sparse[:, 2].min() > 2
    assert sparse[:, 2].max() < 5


def test_the_buffer_is_kept_between_frames():
    build = CloudBuilder(CAMERA, CloudConfig())
    assert np.shares_memory(build(DEPTH, IMAGE), build(DEPTH, IMAGE))


@pytest.mark.parametrize("values", [{"decimation": 0}, {"min_range": 3.0, "max_range": 2.0}])
def test_impossible_settings_are_refused(values):
    with pytest.raises(ValueError, match="must|need"):
        CloudConfig(**values)
