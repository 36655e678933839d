import numpy as np
import pytest

from ssmde_ros.data.fusion import GRID, DepthFusion
from ssmde_ros.geometry import PinholeCamera, TwoView

CAMERA = PinholeCamera(80, 64, 60.0, 62.0, 38.0, 33.0)
ROWS, COLUMNS = np.mgrid[GRID // 2 : CAMERA.height : GRID, GRID // 2 : CAMERA.width : GRID]


def view(depth, mask=None):
    """A pair that gives the grid of the target this depth, where the mask is set."""
    kept = np.ones(ROWS.shape, bool) if mask is None else mask
    pixels = np.stack([COLUMNS[kept], ROWS[kept]], 1)
    points = (pixels - [CAMERA.cx, CAMERA.cy]) / [CAMERA.fx, CAMERA.fy]
    depth = np.broadcast_to(depth, ROWS.shape)[kept].astype(float)
    return TwoView(np.eye(4), points, points, depth, depth, 1.0, 0.1)


def fused(*views, units=None):
    fusion = DepthFusion(CAMERA)
    for number, each in enumerate(views):
        fusion.add(3, each, units[number] if units else 1.0)
    points, depth = fusion.fused(3)
    table = np.full(ROWS.shape, np.nan)
    pixels = points * [CAMERA.fx, CAMERA.fy] + [CAMERA.cx, CAMERA.cy]
    column, row = ((pixels - GRID // 2) / GRID).round().astype(int).T
    table[row, column] = depth
    return table


def test_what_two_pairs_agree_on_is_kept_in_one_unit():
    table = fused(view(2.0), view(0.51), units=[1.0, 4.0])
    np.testing.assert_allclose(table, np.sqrt(2.0 * 2.04))


def test_one_pair_alone_is_not_believed():
    assert np.isnan(fused(view(2.0))).all()
    left = COLUMNS < 40
    assert np.isnan(fused(view(2.0), view(2.0, left))[~left]).all()
    assert DepthFusion(CAMERA).fused(0)[0].shape == (0, 2)


def test_a_wrong_pair_is_outvoted():
    table = fused(view(2.0), view(2.02), view(5.0))
    np.testing.assert_allclose(table, np.sqrt(2.0 * 2.02))


def test_pairs_that_all_say_otherwise_say_nothing():
    assert np.isnan(fused(view(1.0), view(2.0))).all()


def test_the_near_side_of_an_edge_is_left_out_and_the_far_side_kept():
    step = np.where(COLUMNS < 40, 2.0, 3.0)
    table = fused(view(step), view(step))
    near = np.isfinite(table) & (COLUMNS < 40)
    assert COLUMNS[near].max() == 40 - GRID // 2 - 2 * GRID, "two cells, where the background's disparity is borrowed"
    assert np.isfinite(table[COLUMNS >= 40]).all()


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.03])
def test_a_slant_is_no_edge(slope):
    plane = 2.0 * np.exp(slope * (COLUMNS - 40) / GRID)
    assert np.isfinite(fused(view(plane), view(plane))).all()


def test_frames_are_kept_apart():
    fusion = DepthFusion(CAMERA)
    fusion.add(0, view(2.0))
    fusion.add(1, view(2.0))
    assert not len(fusion.fused(0)[1])
