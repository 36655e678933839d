import cv2
import numpy as np
import pytest
import torch

from ssmde_ros.networks import DepthNet, load_depth_net, save_depth_net
from ssmde_ros.training.losses.supervised import log_depth_loss, log_gradient_loss
from ssmde_ros.training.mix_style import StyleMixer
from ssmde_ros.training.supervised import SupervisedConfig, SupervisedDepth, train


def maps(seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(2, 1, 8, 9, dtype=dtype, generator=generator) * 5 + 0.5


def test_a_common_factor_costs_only_the_anchor():
    truth = maps(0)
    assert log_depth_loss(truth, truth, 100, 0.2) == 0
    assert log_gradient_loss(truth, truth, 100) == 0
    scaled = log_depth_loss(3 * truth, truth, 100, 0.2)
    assert scaled.item() == pytest.approx(0.1 * torch.log(torch.tensor(3.0)).item(), rel=1e-6)
    assert log_gradient_loss(3 * truth, truth, 100).item() == pytest.approx(0, abs=1e-12)


def test_the_loss_by_hand_where_half_the_pixels_are_off():
    truth = torch.ones(1, 1, 1, 3, dtype=torch.float64)
    depth = torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64).reshape(1, 1, 1, 3)
    log2 = torch.log(torch.tensor(2.0, dtype=torch.float64))
    expected = log2 / 3 + 0.1 * log2 / 3
    torch.testing.assert_close(log_depth_loss(depth, truth, 100, 0.2), expected)


def test_sky_is_drawn_to_the_far_end():
    truth = maps(1)
    truth[:, :, :4] = torch.inf
    right = torch.where(torch.isinf(truth), 100.0, truth)
    near = torch.where(torch.isinf(truth), 10.0, truth)
    assert log_depth_loss(right, truth, 100, 0.2) < log_depth_loss(near, truth, 100, 0.2)
    assert torch.isfinite(log_depth_loss(maps(2), torch.full_like(truth, torch.inf), 100, 0.2))


@pytest.mark.parametrize(
    "loss", [lambda d, t: log_depth_loss(d, t, 100, 0.2), lambda d, t: log_gradient_loss(d, t, 100)]
)
def test_a_step_down_the_gradient_lowers_the_loss(loss):
    truth = maps(3)
    truth[0, 0, 0] = torch.inf
    depth = maps(4).requires_grad_()
    value = loss(depth, truth)
    (gradient,) = torch.autograd.grad(value, depth)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
    with torch.no_grad():
        stepped = loss(depth - 1e-3 * gradient / gradient.norm(), truth)
    assert stepped < value


def test_gradient_loss_passes_gradcheck():
    depth = maps(5).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: log_gradient_loss(d, maps(6), 100.0, scales=2), depth)


@pytest.mark.parametrize("scales", [1, 3])
def test_only_the_heads_asked_for_learn(scales):
    torch.manual_seed(0)
    module = SupervisedDepth(SupervisedConfig(scales=scales, widths=(4, 8, 8, 8, 16)))
    assert module.net.config.widths == (4, 8, 8, 8, 16)
    batch = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8), 1 + 4 * torch.rand(2, 1, 64, 96)
    module.training_step(batch, 0).backward()
    learning = [head.weight.grad is not None for head in module.net.decoder.heads]
    assert learning == [scale < scales for scale in range(4)]


@pytest.mark.slow
def test_a_short_run_resumes_and_writes_weights_with_provenance(tmp_path):
    out = tmp_path / "net.safetensors"

    def run(minutes):
        train(SupervisedConfig(scenes=12, batch_size=2, minutes=minutes, steps=5, held_out=4), out, tmp_path / "work")
        return load_depth_net(out)[1].provenance

    interrupted = run(minutes=0.001)
    assert 0 < interrupted["steps"] < 5
    assert (tmp_path / "work" / "checkpoints" / "last.ckpt").is_file()
    finished = run(minutes=3.0)
    assert finished["steps"] == 5
    (last,) = (tmp_path / "work" / "snapshots").glob("step-00005.safetensors")
    digest = load_depth_net(out)[1].digest
    assert load_depth_net(last)[1].digest == digest  # both are the averaged weights
    assert run(minutes=3.0)["steps"] == 5
    assert load_depth_net(out)[1].digest == digest, "a finished run, repeated, writes the same once more"
    assert 0 < finished["held_out_synthetic"]["abs_rel"] < 10


@pytest.mark.slow
def test_a_run_may_go_on_from_other_weights_and_borrow_looks(tmp_path, monkeypatch):
    first = tmp_path / "first.safetensors"
    save_depth_net(DepthNet(), first, {})
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, size in enumerate([(120, 161, 3), (90, 300, 3)]):
        picture = np.random.default_rng(number).integers(0, 256, size, dtype=np.uint8)
        cv2.imwrite(str(pictures / f"{number}.png"), picture)
    remembered, modes = [], []
    monkeypatch.setattr(StyleMixer, "remember", lambda _, net, images: remembered.append(images.shape))
    monkeypatch.setattr(
        SupervisedDepth, "on_train_batch_start", lambda self, *_: modes.append(self.net.decoder.training)
    )
    out = tmp_path / "second.safetensors"
    settings = SupervisedConfig(
        scenes=4, batch_size=2, minutes=3, steps=1, held_out=2, mix_styles=0.5, looks=(pictures,), start=first,
        learning_rate=1e-9,
    )  # fmt: skip
    train(settings, out, tmp_path / "work")
    assert remembered == [(1, 3, 256, 320), (1, 3, 160, 512)], "each in the shape nearest to its own"
    assert modes == [True], "loaded weights come in evaluation mode"
    (begun, info), (ended, after) = load_depth_net(first), load_depth_net(out)
    assert after.provenance["settings"]["start"] == info.digest
    assert after.provenance["settings"]["looks"] == ["/".join(pictures.parts[-2:])]
    kept = dict(begun.named_parameters())
    assert all(torch.allclose(value, kept[name], atol=1e-6) for name, value in ended.named_parameters())
