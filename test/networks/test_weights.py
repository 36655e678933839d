import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ssmde_ros.networks import (
    DepthNet,
    DepthNetConfig,
    WeightsError,
    check_depth_net,
    load_depth_net,
    save_depth_net,
)
from ssmde_ros.networks.weights import FORMAT
from ssmde_ros.resources import default_weights

CONFIG = DepthNetConfig(input_width=64, input_height=32, max_depth=50.0, scale_kind="metric")


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(3)
    net = DepthNet(CONFIG).eval()
    path = tmp_path / "net.safetensors"
    save_depth_net(net, path, {"data": "nothing"})
    return net, path


def damaged(path, change_state=None, **metadata):
    """Rewrite a weight file with other tensors or metadata."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        old = file.metadata()
    state = load_file(path)
    if change_state:
        change_state(state)
    save_file(state, path, old | metadata)
    return path


def test_a_network_survives_the_round_trip(saved):
    net, path = saved
    again, info = load_depth_net(path)
    assert again.config == CONFIG == info.config
    assert info.provenance == {"data": "nothing"}
    image = torch.rand(1, 3, 32, 64)
    with torch.inference_mode():
        assert torch.equal(net.depth(image), again.depth(image))


def test_the_digest_names_the_function_not_the_file(saved, tmp_path):
    net, path = saved
    for number in range(4):  # safetensors writes its metadata in random order
        save_depth_net(net, tmp_path / f"{number}.safetensors", {"run": number})
    same = {load_depth_net(tmp_path / f"{number}.safetensors")[1].digest for number in range(4)}
    assert same == {load_depth_net(path)[1].digest}
    with torch.no_grad():
        net.decoder.heads[0].bias += 1e-3
    save_depth_net(net, path, {})
    assert load_depth_net(path)[1].digest not in same


def test_nothing_is_left_beside_the_file(saved):
    _, path = saved
    assert [p.name for p in path.parent.iterdir()] == ["net.safetensors"]


def test_nan_is_neither_written_nor_read(saved, tmp_path):
    net, path = saved
    damaged(path, lambda s: s["decoder.heads.0.bias"].fill_(float("nan")))
    with pytest.raises(WeightsError, match=r"NaN or infinity, first decoder\.heads\.0\.bias"):
        load_depth_net(path)
    with torch.no_grad():
        net.decoder.heads[0].bias.fill_(float("inf"))
    with pytest.raises(WeightsError, match="NaN or infinity"):
        save_depth_net(net, tmp_path / "bad.safetensors", {})
    assert not (tmp_path / "bad.safetensors").exists()


def test_missing_and_foreign_tensors_are_named(saved):
    _, path = saved
    damaged(path, lambda s: s.pop("encoder.stem.0.weight"))
    with pytest.raises(WeightsError, match=r"lacks 1 tensors, first encoder\.stem\.0\.weight"):
        load_depth_net(path)
    damaged(path, lambda s: s.update({"encoder.stem.0.weight": torch.zeros(32, 3, 3, 3), "spy": torch.zeros(1)}))
    with pytest.raises(WeightsError, match="1 foreign tensors, first spy"):
        load_depth_net(path)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(32, 3, 3, 4),
        torch.zeros(32, 3, 3, 3, dtype=torch.float16),
        torch.zeros(32, 3, 3, 3, dtype=torch.bfloat16),  # NumPy does not have it
    ],
)
def test_other_shapes_and_types_are_refused(saved, tensor):
    _, path = saved
    damaged(path, lambda s: s.update({"encoder.stem.0.weight": tensor}))
    with pytest.raises(WeightsError, match="the architecture needs"):
        load_depth_net(path)


WIDE = {"widths": [8.0, 16, 24, 40, 64]}, {"widths": [10**9] * 5}, {"input_width": 320.0}


@pytest.mark.parametrize(
    "config",
    [
        "not json",
        "{}",
        "[]",
        *(json.dumps({"widths": [8, 16, 24, 40, 64]} | c) for c in WIDE),
        json.dumps({"widths": [1]}),
    ],
)
def test_unusable_metadata_is_refused(saved, config):
    _, path = saved
    with pytest.raises(WeightsError, match="unusable metadata"):
        load_depth_net(damaged(path, config=config))


def test_other_formats_are_refused(saved):
    _, path = saved
    with pytest.raises(WeightsError, match="not a depth network"):
        load_depth_net(damaged(path, format="something else"))
    assert FORMAT.startswith("ssmde")


@pytest.mark.parametrize("content", [b"", b"garbage" * 100, None])
def test_broken_files_are_refused(saved, content):
    _, path = saved
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(WeightsError, match="cannot be read"):
        load_depth_net(path)


@pytest.mark.parametrize("name", ["~nobody_lives_here/net.safetensors", "/" + "x" * 300, "/root/\0"])
def test_an_impossible_path_is_refused_in_words(name):
    with pytest.raises(WeightsError, match="cannot be reached|does not exist"):
        load_depth_net(Path(name))


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(WeightsError, match="does not exist; set `weights`"):
        load_depth_net(tmp_path / "nowhere.safetensors")


def test_checking_a_file_says_what_loading_it_would(tmp_path):
    assert check_depth_net(default_weights()) == load_depth_net(default_weights())[1]
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(default_weights().read_bytes()[:-100])
    for read in (check_depth_net, load_depth_net):
        with pytest.raises(WeightsError, match="cannot be read"):
            read(broken)
