import json
import os

import pytest
import torch

from ssmde_ros.networks import WeightsError
from ssmde_ros.networks.leres import LeReS, load_leres
from test.conftest import ROOT

LAYOUT = ROOT.parent / "shared" / "layouts" / "leres.json"
FIRST = "depth_model.encoder_modules.encoder.conv1.weight"


@pytest.fixture(scope="module")
def names_and_shapes():
    """Of a ResNet-50 LeReS, built once."""
    return LeReS("resnet50").state_dict()


@pytest.fixture
def checkpoint(names_and_shapes, tmp_path):
    """A file in the published layout; every tensor is one zero seen many times, so the file is small."""

    def write(change=None, prefix="", **entries):
        state = {
            name: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape) for name, tensor in names_and_shapes.items()
        }
        if change:
            change(state)
        path = tmp_path / "res50.pth"
        torch.save(entries or {"depth_model": {prefix + name: tensor for name, tensor in state.items()}}, path)
        return path

    return write


def one_line(error):
    return "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("backbone", "prefix"),
    [("resnet50", "module."), ("resnet50", ""), pytest.param("resnext101", "module.", marks=pytest.mark.slow)],
)
def test_a_published_layout_loads_strictly_and_predicts(backbone, prefix, tmp_path):
    torch.manual_seed(0)
    net = LeReS(backbone).eval()
    path = tmp_path / "weights.pth"
    torch.save({"depth_model": {prefix + name: tensor for name, tensor in net.state_dict().items()}}, path)
    again = load_leres(path)
    assert again.backbone == backbone
    assert not again.training
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        depth = again(image)
        assert torch.equal(depth, net(image))
    assert depth.shape == (1, 1, 64, 96)
    assert torch.isfinite(depth).all()


@pytest.mark.parametrize("backbone", ["resnet50", "resnext101"])
def test_names_and_shapes_are_the_published_ones(backbone):
    if not LAYOUT.exists():
        pytest.skip(f"the list of published tensors is not on this machine ({LAYOUT})")
    with torch.device("meta"):
        net = LeReS(backbone)
    ours = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    assert ours == json.loads(LAYOUT.read_text())[backbone]


def test_any_size_goes_through_the_published_one(monkeypatch):
    net = LeReS("resnet50").eval()
    seen = []

    def forward(image):
        seen.append(tuple(image.shape))
        return image[:, :1]

    monkeypatch.setattr(net, "forward", forward)
    ramp = torch.linspace(0, 1, 100).expand(2, 3, 50, 100)
    depth = net.predict(ramp)
    assert seen == [(2, 3, 448, 448)]
    torch.testing.assert_close(depth, ramp[:, :1], atol=2e-3, rtol=0)


def test_every_parameter_takes_part():
    net = LeReS("resnet50").train()
    net(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("shape", [(1, 3, 60, 64), (1, 1, 64, 64), (3, 64, 64)])
def test_sizes_it_cannot_take_are_refused(shape):
    with torch.device("meta"):
        net = LeReS()
    with pytest.raises(ValueError, match="multiples of 32"):
        net(torch.zeros(shape))


def test_an_unknown_backbone_is_refused():
    with pytest.raises(ValueError, match="choose from resnet50, resnext101"):
        LeReS("vgg")


def test_small_stand_in_files_load(checkpoint):
    assert load_leres(checkpoint(prefix="module.")).backbone == "resnet50"


def drop(state):
    del state[FIRST]


def misshape(state):
    state[FIRST] = torch.zeros(64, 3, 5, 5)


def poison(state):
    state[FIRST] = torch.full((64, 3, 7, 7), float("nan"))


def add(state):
    state["spy"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop, f"lacks 1 tensors, first {FIRST}"),
        (misshape, "the architecture needs"),
        (poison, f"NaN or infinity, first {FIRST}"),
        (add, "1 foreign tensors, first spy"),
    ],
)
def test_a_damaged_checkpoint_is_refused_in_one_line(checkpoint, change, reason):
    path = checkpoint(change)
    with pytest.raises(WeightsError, match=reason) as error:
        load_leres(path)
    assert one_line(error)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "entries",
    [{"state_dict": {"a": torch.zeros(1)}}, {"depth_model": [1, 2]}, {"depth_model": {"a": "no tensor"}}],
)
def test_foreign_files_are_refused_in_one_line(checkpoint, entries):
    with pytest.raises(WeightsError, match="no LeReS checkpoint .*give res50.pth or res101.pth") as error:
        load_leres(checkpoint(**entries))
    assert one_line(error)


def test_a_file_that_is_no_dictionary_is_refused(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="no LeReS checkpoint"):
        load_leres(tmp_path / "a.pth")


class Bomb:
    def __reduce__(self):
        return os.system, ("exit 0",)


@pytest.mark.parametrize("how", ["truncated", "empty", "garbage", "code"])
def test_unreadable_files_are_refused_in_one_line(checkpoint, how):
    path = checkpoint()
    whole = path.read_bytes()
    if how == "code":
        torch.save({"depth_model": Bomb()}, path)
    else:
        path.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "garbage": b"x" * 999}[how])
    with pytest.raises(WeightsError, match="cannot be read .*is it the whole res50.pth") as error:
        load_leres(path)
    assert one_line(error)


@pytest.mark.parametrize("name", ["nowhere.pth", "x" * 300])
def test_a_missing_file_says_what_to_do(tmp_path, name):
    with pytest.raises(WeightsError, match="cannot be reached|does not exist; download res50.pth"):
        load_leres(tmp_path / name)
