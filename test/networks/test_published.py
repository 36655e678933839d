"""Checkpoints in the public layouts become our files: names, shapes, strictness, and the numbers."""

import argparse
import json

import pytest
import torch
from lightning.fabric.utilities.data import AttributeDict
from torch.nn import functional as F

from ssmde_ros.cli import main
from ssmde_ros.networks import WeightsError, load_depth_net, save_depth_net
from ssmde_ros.networks.published import read_published
from test.conftest import ROOT

LAYOUTS = ROOT.parent / "shared" / "layouts"
RESNET = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
SKIPS = {18: (64, 64, 128, 256, 512), 50: (64, 256, 512, 1024, 2048)}
WIDTHS = (16, 32, 64, 128, 256)


def resnet(prefix, layers, draw):
    """A torchvision ResNet's tensors by their published names, random."""
    state = {f"{prefix}conv1.weight": draw(64, 3, 7, 7), **norm(f"{prefix}bn1", 64, draw)}
    inputs = 64
    for stage, (blocks, outputs) in enumerate(zip(RESNET[layers], SKIPS[layers][1:], strict=True), start=1):
        width = 64 * 2 ** (stage - 1)
        for block in range(blocks):
            name = f"{prefix}layer{stage}.{block}."
            kernels = [(inputs, width, 3), (width, width, 3)]
            if layers == 50:
                kernels = [(inputs, width, 1), (width, width, 3), (width, outputs, 1)]
            for number, (i, o, k) in enumerate(kernels, start=1):
                state |= {f"{name}conv{number}.weight": draw(o, i, k, k), **norm(f"{name}bn{number}", o, draw)}
            if block == 0 and inputs != outputs:
                state |= {f"{name}downsample.0.weight": draw(outputs, inputs, 1, 1)}
                state |= norm(f"{name}downsample.1", outputs, draw)
            inputs = outputs
    return state | {f"{prefix}fc.weight": draw(1000, inputs), f"{prefix}fc.bias": draw(1000)}


def norm(name, channels, draw):
    return {
        f"{name}.weight": 1 + draw(channels), f"{name}.bias": draw(channels), f"{name}.running_mean": draw(channels),
        f"{name}.running_var": 1 + draw(channels).abs(), f"{name}.num_batches_tracked": torch.tensor(7),
    }  # fmt: skip


def decoder(names, layers, draw):
    """The decoder's tensors; `names` gives those of level i: first and second convolution, and head."""
    state = {}
    for i in range(4, -1, -1):
        first, second, head = names(i)
        inputs = SKIPS[layers][4] if i == 4 else WIDTHS[i + 1]
        state |= {f"{first}.weight": draw(WIDTHS[i], inputs, 3, 3), f"{first}.bias": draw(WIDTHS[i])}
        inputs = WIDTHS[i] + (SKIPS[layers][i - 1] if i else 0)
        state |= {f"{second}.weight": draw(WIDTHS[i], inputs, 3, 3), f"{second}.bias": draw(WIDTHS[i])}
        if i < 4:
            state |= {f"{head}.weight": draw(1, WIDTHS[i], 3, 3), f"{head}.bias": draw(1)}
    return state


def monodepth2_names(i):
    return f"decoder.{8 - 2 * i}.conv.conv", f"decoder.{9 - 2 * i}.conv.conv", f"decoder.{10 + i}.conv"


def sc_depth_names(i):
    base = "depth_net.decoder."
    return f"{base}upconvs0.{4 - i}.conv.conv", f"{base}upconvs1.{4 - i}.conv.conv", f"{base}dispconvs.{i}.conv"


def drawn(seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        fan = shape[1] * shape[2] * shape[3] if len(shape) == 4 else 100
        return torch.randn(shape, generator=generator) * (1.5 / fan) ** 0.5

    return draw


def published_sigma(state, prefix, names, layers, image):
    """The published forward pass, read off the papers, on the tensors as they are named there."""

    def bn(x, name):
        part = [state[f"{prefix}{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *part)

    def conv(x, name, stride=1):
        weight = state[f"{prefix}{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    x = F.relu(bn(conv((image - 0.45) / 0.225, "conv1", 2), "bn1"))
    features = [x]
    x = F.max_pool2d(x, 3, 2, 1)
    for stage in range(1, 5):
        for block in range(RESNET[layers][stage - 1]):
            name, stride = f"layer{stage}.{block}.", 2 if stage > 1 and block == 0 else 1
            count = 3 if layers == 50 else 2
            y = x
            for number in range(1, count + 1):
                # In a bottleneck the 3x3 convolution strides, as in the ImageNet weights that both start from.
                here = stride if number == (2 if count == 3 else 1) else 1
                y = bn(conv(y, f"{name}conv{number}", here), f"{name}bn{number}")
                y = F.relu(y) if number < count else y
            if f"{prefix}{name}downsample.0.weight" in state:
                x = bn(conv(x, f"{name}downsample.0", stride), f"{name}downsample.1")
            x = F.relu(x + y)
        features.append(x)

    def reflected(x, name):
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), state[f"{name}.weight"], state[f"{name}.bias"])

    for i in range(4, -1, -1):
        first, second, head = names(i)
        x = F.interpolate(F.elu(reflected(x, first)), scale_factor=2, mode="nearest")
        x = F.elu(reflected(torch.cat([x, features[i - 1]], 1) if i else x, second))
    return torch.sigmoid(reflected(x, head))


def write_monodepth2(folder, change=None, stereo=False, prefix="", **said):
    draw = drawn()
    encoder = resnet("encoder.", 18, draw) | {"height": 192, "width": 640, "use_stereo": stereo} | said
    depth = decoder(monodepth2_names, 18, draw)
    if change:
        change(encoder, depth)
    folder.mkdir(exist_ok=True)
    torch.save({prefix + k: v for k, v in encoder.items()}, folder / "encoder.pth")
    torch.save({prefix + k: v for k, v in depth.items()}, folder / "depth.pth")
    return folder


def write_sc_depth(path, layers=18, change=None, parameters=None):
    draw = drawn(1)
    state = resnet("depth_net.encoder.encoder.", layers, draw) | decoder(sc_depth_names, layers, draw)
    state["pose_net.encoder.encoder.conv1.weight"] = draw(64, 6, 7, 7)
    if change:
        change(state)
    torch.save({"state_dict": state, "hyper_parameters": parameters or {}, "epoch": 99}, path)
    return path


def shapes(state):
    return {name: list(value.shape) for name, value in state.items() if isinstance(value, torch.Tensor)}


def listed(file):
    path = LAYOUTS / file
    if not path.exists():
        pytest.skip(f"the list of published tensors is not on this machine ({path})")
    return json.loads(path.read_text())


def test_the_layouts_that_are_tested_are_the_published_ones(tmp_path):
    write_monodepth2(tmp_path)
    layout = listed("monodepth2.json")
    for file in ("encoder.pth", "depth.pth"):
        names = {k: v for k, v in layout[file].items() if isinstance(v, list)}
        assert shapes(torch.load(tmp_path / file, weights_only=True)) == names
    for layers in (18, 50):
        path = write_sc_depth(tmp_path / "sc.ckpt", layers)
        state = torch.load(path, weights_only=True)["state_dict"]
        found = {k: v for k, v in shapes(state).items() if k.startswith("depth_net.")}
        assert found == listed("sc_depth.json")[f"depth_net resnet{layers}"]


@pytest.mark.parametrize(("stereo", "metres"), [(False, 1.0), (True, 5.4)])
def test_monodepth2_gives_the_depth_of_the_published_forward_pass(tmp_path, stereo, metres):
    folder = write_monodepth2(tmp_path, stereo=stereo)
    found = read_published(folder)
    state = {
        **torch.load(folder / "encoder.pth", weights_only=True),
        **torch.load(folder / "depth.pth", weights_only=True),
    }
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        sigma = published_sigma(state, "encoder.", monodepth2_names, 18, image)
        # Godard 2019: disparity between 1/100 and 1/0.1.
        torch.testing.assert_close(found.net.depth(image), metres / (0.01 + 9.99 * sigma), rtol=1e-5, atol=0)
    config = found.net.config
    assert (found.family, found.size_known, config.input_width, config.input_height) == ("monodepth2", True, 640, 192)
    assert config.scale_kind == ("metric" if stereo else "relative")


@pytest.mark.parametrize("layers", [18, 50])
def test_sc_depth_gives_the_depth_of_the_published_forward_pass(tmp_path, layers):
    path = write_sc_depth(tmp_path / "sc.ckpt", layers)
    found = read_published(path)
    state = torch.load(path, weights_only=True)["state_dict"]
    image = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        sigma = published_sigma(state, "depth_net.encoder.encoder.", sc_depth_names, layers, image)
        # Bian 2021: disparity 10 sigma + 0.01.
        torch.testing.assert_close(found.net.depth(image), 1 / (10 * sigma + 0.01), rtol=1e-5, atol=0)
    assert (found.family, found.net.config.encoder) == ("SC-Depth", f"resnet{layers}")


def test_an_imported_network_survives_our_file_format(tmp_path):
    net = read_published(write_monodepth2(tmp_path, prefix="module.")).net
    save_depth_net(net, tmp_path / "ours.safetensors", {})
    again = load_depth_net(tmp_path / "ours.safetensors")[0]
    image = torch.rand(1, 3, 64, 96)
    assert again.config == net.config
    with torch.inference_mode():
        torch.testing.assert_close(again.depth(image), net.depth(image), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        ({"dataset_name": "nyu"}, (320, 256)),
        (AttributeDict(hparams=argparse.Namespace(dataset_name="ddad")), (640, 384)),
        (AttributeDict(dataset_name="kitti"), (832, 256)),
        ({"hparams": argparse.Namespace()}, None),
        ({}, None),
    ],
)
def test_sc_depth_is_run_at_the_size_of_its_data_set_however_lightning_wrapped_it(tmp_path, parameters, size):
    found = read_published(write_sc_depth(tmp_path / "sc.ckpt", parameters=parameters))
    assert (found.net.config.input_width, found.net.config.input_height) == (size or (832, 256))
    assert found.size_known == (size is not None)
    assert read_published(tmp_path / "sc.ckpt", (320, 96)).net.config.input_height == 96


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda e, d: e.pop("encoder.layer2.0.conv1.weight"),
            r"encoder.pth lacks 1 tensors, first encoder.layer2.0.conv1",
        ),
        (lambda e, d: d.pop("decoder.0.conv.conv.bias"), r"depth.pth lacks 1 tensors, first decoder.0"),
        (lambda e, d: d.update(more=torch.zeros(1)), "depth.pth has 1 foreign tensors, first more"),
        (lambda e, d: d.update({"decoder.0.conv.conv.bias": 3}), "decoder.0.conv.conv.bias is no tensor"),
        (lambda e, d: d["decoder.0.conv.conv.bias"].fill_(torch.nan), "NaN"),
        (lambda e, d: d.update({"decoder.0.conv.conv.bias": torch.zeros(3)}), "the architecture needs"),
        (lambda e, d: d.clear(), "no tensors by name"),
    ],
)
def test_a_wrong_monodepth2_is_refused_in_one_line(tmp_path, change, says):
    with pytest.raises(WeightsError, match=says) as refused:
        read_published(write_monodepth2(tmp_path, change))
    assert "\n" not in str(refused.value)


def test_a_wrong_sc_depth_or_anything_else_is_refused_in_one_line(tmp_path):
    path = write_sc_depth(tmp_path / "sc.ckpt", change=lambda s: s.pop("depth_net.decoder.dispconvs.0.conv.bias"))
    with pytest.raises(WeightsError, match=r"lacks 1 tensors, first depth_net.decoder.dispconvs.0.conv.bias"):
        read_published(path)
    torch.save({"state_dict": {"pose_net.x": torch.zeros(1)}}, path)
    with pytest.raises(WeightsError, match="no SC-Depth checkpoint"):
        read_published(path)
    path.write_bytes(b"PK nothing")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_published(path)
    with pytest.raises(WeightsError, match=r"encoder.pth does not exist"):
        read_published(tmp_path)
    with pytest.raises(WeightsError, match="does not exist"):
        read_published(tmp_path / "none.ckpt")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": {}, "hyper_parameters": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_published(tmp_path / "evil.ckpt")
    assert not (tmp_path / "ran").exists()


def test_the_command_writes_weights_that_give_depth(tmp_path, capsys):
    folder = write_monodepth2(tmp_path / "mono_640x192")
    out = tmp_path / "mono.safetensors"
    assert main(["import", str(folder), "-o", str(out), "--licence", "Monodepth v2 License"]) == 0
    assert capsys.readouterr().out.startswith(
        "monodepth2, resnet18, 640x192, relative depth from 0.1 to 100 m: mono.safe"
    )
    info = load_depth_net(out)[1]
    assert info.provenance["licence"] == "Monodepth v2 License"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "x.pth"], "weights files end in .safetensors"),
        (["-o", "x.safetensors", "--size", "100x100"], "input size must be multiples of 32, got 100x100"),
        (["-o", "/proc/none/x.safetensors"], "cannot be written"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, capsys, words, says):
    folder = write_monodepth2(tmp_path / "mono")
    assert main(["import", str(folder), *words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
