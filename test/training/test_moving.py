"""Residual flow and the regions that move, on a wall with a box in front of it."""

import numpy as np
import pytest
import torch

from ssmde_ros.geometry import look
from ssmde_ros.training.moving import NUDGE, ResidualFlow, moving_regions, residual_flow
from test.training.box_before_wall import COLUMNS, FOCAL, ROWS, STEP, H, K, W, box, motion, scene, seen_from, share


def flow_of(shift=0.0, factor=1.0):
    """Residual flow to a camera `STEP` to the right, with depth times `factor`; the box moves by `shift` metres."""
    target, depth = seen_from(0.0)
    source = seen_from(STEP, shift)[0]
    depth = factor * depth
    return residual_flow(target, source, look(depth, motion(STEP), K), look(NUDGE * depth, motion(STEP), K))


def inner(mask):
    """Without the rim of the image, where the flow sees only one side."""
    cut = torch.zeros_like(mask)
    cut[..., 6:-6, 8:-8] = True
    return mask & cut


def test_nothing_is_left_of_a_static_world():
    flow = flow_of()
    where = inner(~box(4) | box(-3)) & flow.known
    assert where.sum() > 800
    assert flow.along[where].abs().median() < 0.1
    assert flow.across[where].quantile(0.95) < 0.3
    assert share(flow.deviation(0.5, 0.1) < 1, where) > 0.95


def test_the_slope_is_that_of_a_sideways_step():
    # u = f x / z: du = -f x / z d(log z), and x / z is the step over the depth.
    flow = flow_of()
    depth = seen_from(0.0)[1]
    torch.testing.assert_close(flow.slope, FOCAL * STEP / depth, rtol=0.06, atol=0)


@pytest.mark.parametrize("factor", [1.5, 0.7])
def test_a_wrong_depth_is_left_along_the_epipolar_line(factor):
    flow = flow_of(factor=factor)
    # The flow goes to where the true depth would be: log(1 / factor) away, by the slope (of the wrong depth).
    where = inner(~box(6)) & flow.known
    wanted = FOCAL * STEP / 4 * (1 - 1 / factor)
    assert (flow.along[where].abs().median() - abs(wanted)).abs() < 0.25 * abs(wanted)
    assert torch.sign(flow.along[where].median()) == np.sign(1 / factor - 1), "too far a depth is corrected to nearer"
    assert flow.across[where].median() < 0.1
    usual = float(flow.depth_error())
    assert usual == pytest.approx(abs(1 - factor), rel=0.35)


def test_what_moves_is_left_over_and_gains():
    flow = flow_of(shift=0.2)
    inside = box(-3)
    assert flow.along[inside].abs().median() > 3, "five pixels"
    assert flow.gain[inside].median() > 0.02
    assert flow.gain[inner(~box(8))].abs().median() < 0.02


def test_regions_are_the_box_and_images_stand_alone():
    target, sources, motions, lens, teacher = scene(shift=0.2)
    flows = []
    for source, m in zip(sources, motions, strict=True):
        flows.append(residual_flow(target, source, look(teacher.depth, m, lens), look(NUDGE * teacher.depth, m, lens)))
    found = moving_regions(flows, target, 2.0, 0.1)
    assert found.shape == (1, 1, H, W)
    assert share(found, box(-2)) > 0.85
    assert share(found, ~box(4)) < 0.03
    still = ResidualFlow(*(torch.zeros_like(v) for v in vars(flows[0]).values()))
    both = [
        ResidualFlow(*(torch.cat(p) for p in zip(vars(f).values(), vars(still).values(), strict=True))) for f in flows
    ]
    pair = moving_regions(both, target.expand(2, -1, -1, -1), 2.0, 0.1)
    assert torch.equal(pair[:1], found)
    assert not pair[1].any()
    assert ROWS.start > 0 and COLUMNS.start > 0


def test_unknown_everywhere_moves_nowhere():
    nothing = torch.full((1, 1, H, W), 9.0)
    flow = ResidualFlow(nothing, nothing, nothing, nothing, torch.zeros(1, 1, H, W, dtype=torch.bool))
    assert not moving_regions([flow, flow], torch.rand(1, 3, H, W), 2.0, 0.1).any()
    assert flow.depth_error().item() == 0


def test_the_answer_is_the_same_each_time():
    target, sources, motions, lens, teacher = scene(shift=0.2)
    flow = residual_flow(
        target, sources[0], look(teacher.depth, motions[0], lens), look(NUDGE * teacher.depth, motions[0], lens)
    )
    answers = [moving_regions([flow], target, 2.0, 0.1) for _ in range(3)]
    assert all(torch.equal(a, answers[0]) for a in answers)
