"""The contrast of a pseudo-depth, found by motion."""

import pytest
import torch

from ssmde_ros.training.contrast import contrast_loss, motion_contrast
from ssmde_ros.training.losses.pseudo import in_convention, mean_and_spread
from test.training.scenes import rendered_clip


def seen(seed, kind="room"):
    """Frames, true depth, motions and K of a synthetic scene, its middle frame the target."""
    clip = rendered_clip(frames=3, kind=kind, seed=seed, interval=0.4)
    frames = clip.images.float() / 255
    motions = [torch.from_numpy(clip.motion(1, s)).float()[None] for s in (0, 2)]
    return (
        frames[1:2],
        [frames[0:1], frames[2:3]],
        clip.depth[1:2].clamp(max=100.0),
        motions,
        clip.camera.matrix()[None],
    )


def true_contrast(depth, mask, convention):
    mean, spread = mean_and_spread(in_convention(depth, convention), mask)
    return float(spread / mean)


@pytest.mark.parametrize("convention", ["inverse_depth", "depth"])
@pytest.mark.parametrize("seed", [2, 3])
def test_motion_finds_the_contrast_whatever_scale_and_shift(convention, seed):
    target, sources, depth, motions, lens = seen(seed)
    mask = torch.ones_like(depth, dtype=torch.bool)
    wanted = true_contrast(depth, mask, convention)
    found = []
    for scale, shift in ((1.0, 0.0), (7.0, -90.0), (0.01, 3.0)):
        pseudo = scale * in_convention(depth, convention) + shift
        found.append(float(motion_contrast(pseudo, depth, mask, target, sources, motions, lens, convention)))
    assert found[0] == pytest.approx(wanted, rel=0.3)
    assert found[1] == pytest.approx(found[0], rel=1e-3)
    assert found[2] == pytest.approx(found[0], rel=1e-3)


def test_images_stand_alone():
    one, two = seen(2), seen(3)
    mask = torch.ones_like(one[2], dtype=torch.bool)
    both = motion_contrast(
        torch.cat([1 / one[2], 1 / two[2]]), torch.cat([one[2], two[2]]), torch.cat([mask, mask]),
        torch.cat([one[0], two[0]]), [torch.cat(p) for p in zip(one[1], two[1], strict=True)],
        [torch.cat(p) for p in zip(one[3], two[3], strict=True)], torch.cat([one[4], two[4]]), "inverse_depth",
    )  # fmt: skip
    for i, (target, sources, depth, motions, lens) in enumerate((one, two)):
        alone = motion_contrast(1 / depth, depth, mask, target, sources, motions, lens, "inverse_depth")
        torch.testing.assert_close(both[i : i + 1], alone)


@pytest.mark.parametrize("kind", ["black", "still", "constant", "empty"])
def test_nothing_to_see_gives_some_finite_contrast(kind):
    target, sources, depth, motions, lens = seen(2)
    mask, pseudo = torch.ones_like(depth, dtype=torch.bool), 1 / depth
    if kind == "black":
        target, sources = 0 * target, [0 * s for s in sources]
    elif kind == "still":
        motions = [torch.eye(4)[None]] * 2
    elif kind == "constant":
        pseudo = torch.full_like(depth, 0.3)
    else:
        mask = ~mask
    found = motion_contrast(pseudo, depth, mask, target, sources, motions, lens, "inverse_depth")
    assert torch.isfinite(found).all()
    student = depth.clone().requires_grad_()
    contrast_loss(student, found, mask, "inverse_depth").backward()
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("convention", ["inverse_depth", "depth"])
def test_the_loss_pulls_the_spread_and_nothing_else(convention):
    depth = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]], dtype=torch.float64)
    mask = torch.ones_like(depth, dtype=torch.bool)
    wanted = torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64)
    values = in_convention(depth, convention)
    by_hand = ((values - values.mean()).abs().mean() / values.mean() - 0.7).abs()
    torch.testing.assert_close(contrast_loss(depth, wanted, mask, convention), by_hand)
    student = depth.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda d: contrast_loss(d, wanted, mask, convention), student)
    contrast_loss(student, wanted, mask, convention).backward()
    assert abs(float((student.grad * depth).sum())) < 1e-12, "no part of it moves the image nearer or farther"
