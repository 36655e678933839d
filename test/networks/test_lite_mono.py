"""Lite-Mono: published checkpoints become our files, with the depth of the published forward pass."""

import math

import pytest
import torch
from torch.nn import functional as F

from ssmde_ros.networks import DepthNet, DepthNetConfig, WeightsError, load_depth_net, save_depth_net
from ssmde_ros.networks.encoders import ENCODERS
from ssmde_ros.networks.published import read_published
from ssmde_ros.training.finetune_config import read_fine_tune
from ssmde_ros.training.module import encoder_blocks
from test.networks.test_published import drawn, listed, norm, shapes

# Channels of the levels, and dilations of the blocks of each (table 1 of the paper).
SHORT, LONG = (1, 2, 3, 2, 4, 6), (1, 2, 3, 1, 2, 3, 2, 4, 6)
REDUCTIONS = ("stem2.0.conv", "downsample_layers.1.0.conv", "downsample_layers.2.0.conv")
VARIANTS = {
    "lite-mono": ((48, 80, 128), LONG),
    "lite-mono-small": ((48, 80, 128), SHORT),
    "lite-mono-tiny": ((32, 64, 128), SHORT),
    "lite-mono-8m": ((64, 128, 224), LONG),
}


def dilations(variant, wide=False):
    """Of the three stages; networks trained at 1024x320 have wider ones (issue 155 of the authors' repository)."""
    stages = (1, 2, 3), (1, 2, 3), VARIANTS[variant][1]
    return tuple(tuple({3: 5, 6: 10}.get(d, d) if wide else d for d in stage) for stage in stages)


def linear(name, inputs, outputs, draw):
    return {f"{name}.weight": draw(outputs, inputs) * (100 / inputs) ** 0.5, f"{name}.bias": draw(outputs)}


def encoder_tensors(variant, draw):
    """Random tensors by their published names; every term counts, unlike in a fresh network with gamma 1e-6."""
    channels = VARIANTS[variant][0]
    state, first = {}, channels[0]
    for i in range(3):
        name = f"downsample_layers.0.{i}"
        state |= {f"{name}.conv.weight": draw(first, first if i else 3, 3, 3)}
        state |= norm(f"{name}.bn_gelu.bn", first, draw)
    state["stem2.0.conv.weight"] = draw(first, first + 3, 3, 3)
    for i in (1, 2):
        state[f"downsample_layers.{i}.0.conv.weight"] = draw(channels[i], 2 * channels[i - 1] + 3, 3, 3)
    for stage, (c, rates) in enumerate(zip(channels, dilations(variant), strict=True)):
        for block in range(len(rates) + 1):
            name = f"stages.{stage}.{block}."
            state |= linear(f"{name}pwconv1", c, 6 * c, draw) | linear(f"{name}pwconv2", 6 * c, c, draw)
            state[f"{name}gamma"] = draw(c) * 3
            if block < len(rates):
                state |= {f"{name}ddwconv.conv.weight": draw(c, 1, 3, 3)} | norm(f"{name}bn1", c, draw)
                state |= {f"{name}norm.weight": torch.ones(c) * 0.9, f"{name}norm.bias": torch.zeros(c)}
                continue
            for layer in ("norm", "norm_xca"):
                state |= {f"{name}{layer}.weight": 1 + draw(c), f"{name}{layer}.bias": draw(c)}
            state |= linear(f"{name}xca.qkv", c, 3 * c, draw) | linear(f"{name}xca.proj", c, c, draw)
            state |= {f"{name}gamma_xca": draw(c) * 3, f"{name}xca.temperature": 1 + draw(8, 1, 1)}
            if stage == 0:
                state[f"{name}pos_embd.token_projection.weight"] = draw(c, 64, 1, 1)
                state[f"{name}pos_embd.token_projection.bias"] = draw(c)
    return state


def decoder_tensors(variant, draw):
    channels = VARIANTS[variant][0]
    widths, state = [c // 2 for c in channels], {}
    for i in (2, 1, 0):
        first = 2 * (2 - i)
        inputs = [channels[2] if i == 2 else widths[i + 1], widths[i] + (channels[i - 1] if i else 0)]
        for number, count in zip((first, first + 1), inputs, strict=True):
            state[f"decoder.{number}.conv.conv.weight"] = draw(widths[i], count, 3, 3)
            state[f"decoder.{number}.conv.conv.bias"] = draw(widths[i])
        state |= {f"decoder.{6 + i}.conv.weight": draw(1, widths[i], 3, 3), f"decoder.{6 + i}.conv.bias": draw(1)}
    return state


def published_sigma(encoder, decoder, variant, image, wide=False):
    """The published forward pass, read off the paper, on the tensors as they are named there, channels last."""

    def conv(x, name, stride=1, dilation=1):
        weight = encoder[f"{name}.weight"]
        groups = x.shape[1] // weight.shape[1]
        return F.conv2d(x, weight, None, stride, dilation, dilation, groups)

    def bn(x, name):
        return F.batch_norm(x, *(encoder[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")))

    def affine(x, name):
        return x @ encoder[f"{name}.weight"].T + encoder[f"{name}.bias"]

    def layer_norm(x, name):
        unit = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-6).sqrt()
        return unit * encoder[f"{name}.weight"] + encoder[f"{name}.bias"]

    def bottleneck(x, name):
        return encoder[f"{name}gamma"] * affine(F.gelu(affine(x, f"{name}pwconv1")), f"{name}pwconv2")

    def dilated(x, name, rate):
        y = bn(conv(x, f"{name}ddwconv.conv", 1, rate), f"{name}bn1")
        return x + bottleneck(y.permute(0, 2, 3, 1), name).permute(0, 3, 1, 2)

    def position(height, width, name):
        code = torch.zeros(64, height, width)
        for k in range(32):
            wave = torch.sin if k % 2 == 0 else torch.cos
            length = 10000 ** (2 * (k // 2) / 32)
            rows = torch.arange(1, height + 1) / height * 2 * math.pi
            columns = torch.arange(1, width + 1) / width * 2 * math.pi
            code[k], code[32 + k] = wave(rows / length)[:, None], wave(columns / length)
        weight = encoder[f"{name}token_projection.weight"][:, :, 0, 0]
        return torch.einsum("ck,khw->chw", weight, code) + encoder[f"{name}token_projection.bias"][:, None, None]

    def attention(x, name):
        _, count, c = x.shape
        qkv = affine(x, f"{name}qkv").reshape(-1, count, 3, 8, c // 8)
        heads = []
        for h in range(8):
            q, k, v = (qkv[:, :, i, h] for i in range(3))  # [B, N, d]
            q, k = q / q.norm(dim=1, keepdim=True), k / k.norm(dim=1, keepdim=True)
            weight = (torch.einsum("bni,bnj->bij", q, k) * encoder[f"{name}temperature"][h, 0, 0]).softmax(-1)
            heads.append(torch.einsum("bij,bnj->bni", weight, v))
        return affine(torch.cat(heads, 2), f"{name}proj")

    def interaction(x, name, placed):
        batch, c, height, width = x.shape
        start = x + position(height, width, f"{name}pos_embd.") if placed else x
        y = start.reshape(batch, c, -1).permute(0, 2, 1)
        y = y + encoder[f"{name}gamma_xca"] * attention(layer_norm(y, f"{name}norm_xca"), f"{name}xca.")
        y = bottleneck(layer_norm(y, f"{name}norm"), name)
        return x + y.permute(0, 2, 1).reshape(x.shape)

    image = (image - 0.45) / 0.225
    pooled = [F.avg_pool2d(image, 3, 2, 1)]
    for _ in range(2):
        pooled.append(F.avg_pool2d(pooled[-1], 3, 2, 1))
    x = image
    for i in range(3):
        name = f"downsample_layers.0.{i}"
        x = F.gelu(bn(conv(x, f"{name}.conv", 1 if i else 2), f"{name}.bn_gelu.bn"))
    seen, features = [x], []
    for stage, (rates, name) in enumerate(zip(dilations(variant, wide), REDUCTIONS, strict=True)):
        x = conv(torch.cat([*seen, pooled[stage]], 1), name, 2)
        seen = [x]
        for block, rate in enumerate(rates):
            x = dilated(x, f"stages.{stage}.{block}.", rate)
        x = interaction(x, f"stages.{stage}.{len(rates)}.", stage == 0)
        seen.append(x)
        features.append(x)

    def reflected(x, name):
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), decoder[f"{name}.weight"], decoder[f"{name}.bias"])

    def doubled(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear")

    for i in (2, 1, 0):
        x = doubled(F.elu(reflected(x, f"decoder.{4 - 2 * i}.conv.conv")))
        x = F.elu(reflected(torch.cat([x, features[i - 1]], 1) if i else x, f"decoder.{5 - 2 * i}.conv.conv"))
    return torch.sigmoid(doubled(reflected(x, "decoder.6.conv")))


def write(folder, variant="lite-mono-tiny", change=None, **said):
    draw = drawn(4)
    encoder, decoder = encoder_tensors(variant, draw) | said, decoder_tensors(variant, draw)
    if change:
        change(encoder, decoder)
    folder.mkdir(exist_ok=True)
    torch.save(encoder, folder / "encoder.pth")
    torch.save(decoder, folder / "depth.pth")
    return encoder, decoder


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_layouts_that_are_tested_are_the_published_ones(variant):
    layout, draw = listed("lite_mono.json")[variant], drawn()
    assert shapes(encoder_tensors(variant, draw)) == layout["encoder.pth"]
    assert shapes(decoder_tensors(variant, draw)) == layout["depth.pth"]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_it_gives_the_depth_of_the_forward_pass_read_off_the_paper(tmp_path, variant, wide):
    width, height = (1024, 320) if wide else (640, 192)
    encoder, decoder = write(tmp_path, variant, height=height, width=width, use_stereo=False)
    found = read_published(tmp_path, (96, 64))
    image = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        sigma = published_sigma(encoder, decoder, variant, image, wide)
        assert sigma.std() > 0.01
        torch.testing.assert_close(found.net.depth(image), 1 / (0.01 + 9.99 * sigma), rtol=1e-4, atol=0)
    name = variant.replace("-", "_") + ("_wide" if wide else "")
    assert (found.family, found.net.config.encoder) == ("Lite-Mono", name)
    assert found.size_known and found.net.config.scale_kind == "relative"


def test_it_survives_our_file_format(tmp_path):
    write(tmp_path, height=192, width=640)
    net = read_published(tmp_path, (320, 96)).net
    save_depth_net(net, tmp_path / "ours.safetensors", {})
    again = load_depth_net(tmp_path / "ours.safetensors")[0]
    image = torch.rand(1, 3, 64, 96)
    assert again.config == net.config and net.config.input_width == 320
    with torch.inference_mode():
        torch.testing.assert_close(again.depth(image), net.depth(image), rtol=0, atol=0)


def test_dilations_that_the_file_does_not_tell_are_not_guessed(tmp_path):
    write(tmp_path, height=256, width=800)
    with pytest.raises(WeightsError, match="trained at 800x256 has dilations that the file does not tell"):
        read_published(tmp_path, (640, 192))
    write(tmp_path)
    assert read_published(tmp_path).net.config.encoder == "lite_mono_tiny"
    assert read_published(tmp_path, (1024, 320)).net.config.encoder == "lite_mono_tiny_wide"


def test_the_shipped_settings_of_a_fine_tune_train_a_part_of_every_encoder():
    frozen = read_fine_tune().train["model"]["frozen_blocks"]
    for name, kind in ENCODERS.items():
        net = DepthNet(DepthNetConfig(name, (8,) * len(kind.channels)))
        blocks = encoder_blocks(net)
        everything = sum(p.numel() for p in net.encoder.parameters())
        assert sum(p.numel() for block in blocks for p in block.parameters()) == everything, name
        assert sum(p.numel() for block in blocks[:frozen] for p in block.parameters()) < 0.4 * everything, name


def test_its_maps_have_the_sizes_that_are_promised_and_all_of_it_learns():
    net = DepthNet(DepthNetConfig("lite_mono_tiny", (16, 32, 64)))
    image = torch.rand(1, 3, 64, 96)
    features, maps = net.features(image), net(image)
    assert [f.shape[2:] for f in features] == [(16, 24), (8, 12), (4, 6)]
    assert [m.shape[2:] for m in maps] == [(64, 96), (32, 48), (16, 24)]
    sum(m.mean() for m in maps).backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    # What attention would change by 1e-6 of 1e-6 in a fresh network is lost in float32.
    assert not [name for name in still if "attention" not in name]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda e, d: e.pop("stages.0.3.gamma_xca"), "encoder.pth lacks 1 tensors, first stages.0.3.gamma_xca"),
        (lambda e, d: e.update(more=torch.zeros(1)), "encoder.pth has 1 foreign tensors, first more"),
        (lambda e, d: d.pop("decoder.8.conv.bias"), "depth.pth lacks 1 tensors, first decoder.8"),
        (lambda e, d: e["stages.1.0.norm.bias"].add_(1), "stages.1.0.norm has been trained"),
        (
            lambda e, d: e.update({"stem2.0.conv.weight": torch.zeros(40, 43, 3, 3)}),
            r"no Lite-Mono has \[40\] channels",
        ),
        (lambda e, d: e.update({"stem2.0.conv.weight": 3}), "no Lite-Mono has"),
        (lambda e, d: e.update({"stages.0.0.gamma": torch.zeros(3)}), "the architecture needs"),
        (lambda e, d: e["stages.0.0.gamma"].fill_(torch.nan), "NaN"),
    ],
)
def test_a_wrong_one_is_refused_in_one_line(tmp_path, change, says):
    write(tmp_path, change=change)
    with pytest.raises(WeightsError, match=says) as refused:
        read_published(tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"widths": (8, 16, 24, 40, 64)}, "widths must be 3 integers"),
        ({"widths": (16, 32, 64), "dense_skips": True}, "dense_skips: the decoder of lite_mono has none"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(values, says):
    with pytest.raises(ValueError, match=says):
        DepthNetConfig("lite_mono", **values)
