"""Pseudo-depth from small random models of the families that `transformers` knows."""

import json
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ssmde_ros.errors import SsmdeError
from ssmde_ros.training.pseudo_depth import (
    PseudoDepthConfig,
    TransformersPseudoDepth,
    make_provider,
)
from test.training.depth_scenes import IMAGE


def test_without_the_library_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SsmdeError, match="pip install transformers"):
        make_provider(PseudoDepthConfig("transformers", tmp_path, "inverse_depth"))


@pytest.fixture
def depth_model(tmp_path):
    """A tiny DPT with random weights, saved as the library saves its models."""
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = library.DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
    )
    library.DPTForDepthEstimation(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "DPTImageProcessor",
                "size": {"height": 32, "width": 32},
                "image_mean": [0.5, 0.5, 0.5],
                "image_std": [0.5, 0.5, 0.5],
                "do_pad": True,
                "size_divisor": 48,
            }
        )
    )
    return tmp_path


def test_a_local_model_is_run(depth_model):
    provider = TransformersPseudoDepth(depth_model, "inverse_depth")
    assert provider.convention == "inverse_depth"
    depth = provider.predict(IMAGE, "a")
    assert depth.shape == (24, 32)
    assert depth.dtype == np.float32
    assert np.array_equal(depth, TransformersPseudoDepth(depth_model, "inverse_depth").predict(IMAGE, "a"))


PICTURES = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "keep_aspect_ratio": True}


def tiny_depth_anything(library, kind):
    backbone = library.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=42, patch_size=14,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False,
    )  # fmt: skip
    config = library.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[8] * 4, fusion_hidden_size=8,
        head_hidden_size=4, depth_estimation_type=kind, max_depth=20 if kind == "metric" else 1,
    )  # fmt: skip
    size = {"size": {"height": 42, "width": 42}, "ensure_multiple_of": 14}
    return library.DepthAnythingForDepthEstimation(config), {"image_processor_type": "DPTImageProcessor"} | size


def tiny_zoe_depth(library):
    backbone = library.BeitConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False, use_absolute_position_embeddings=False,
        use_relative_position_bias=True,
    )  # fmt: skip
    config = library.ZoeDepthConfig(
        backbone_config=backbone, neck_hidden_sizes=[8] * 4, fusion_hidden_size=8, bottleneck_features=8,
        num_relative_features=4, bin_embedding_dim=8, num_attractors=[4, 2, 2, 1],
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0}],
    )  # fmt: skip
    size = {"size": {"height": 32, "width": 32}, "ensure_multiple_of": 32, "do_pad": True}
    return library.ZoeDepthForDepthEstimation(config), {"image_processor_type": "ZoeDepthImageProcessor"} | size


@pytest.mark.parametrize(
    ("make", "convention"),
    [
        (lambda library: tiny_depth_anything(library, "relative"), "inverse_depth"),
        (lambda library: tiny_depth_anything(library, "metric"), "depth"),
        (tiny_zoe_depth, "depth"),
    ],
    ids=["depth-anything", "metric-depth-anything", "zoe-depth"],
)
def test_each_family_gives_a_map_of_the_size_of_the_image_in_its_convention(tmp_path, make, convention):
    library = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model, processor = make(library)
    with torch.no_grad():  # a fresh head gives one depth everywhere
        for value in model.parameters():
            value.normal_(std=0.3)
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PICTURES | processor))
    provider = make_provider(PseudoDepthConfig("transformers", tmp_path, convention))
    depth = provider.predict(IMAGE, "a")
    assert (depth.shape, depth.dtype, provider.convention) == (IMAGE.shape[:2], np.float32, convention)
    assert np.isfinite(depth).all() and depth.min() >= 0 and depth.std() > 0
    wrong = "depth" if convention == "inverse_depth" else "inverse_depth"
    if "depth_estimation_type" in json.loads((tmp_path / "config.json").read_text()):
        with pytest.raises(SsmdeError, match=f"set convention: {convention}"):
            TransformersPseudoDepth(tmp_path, wrong)


def test_a_model_with_holes_is_refused(depth_model):
    from safetensors.torch import load_file, save_file

    path = depth_model / "model.safetensors"
    state = load_file(path)
    del state[next(name for name in state if name.startswith("head"))]
    save_file(state, path, {"format": "pt"})
    with pytest.raises(SsmdeError, match="1 tensors are not there, first head"):
        TransformersPseudoDepth(depth_model, "inverse_depth")


def test_a_model_that_says_otherwise_is_refused(depth_model):
    path = depth_model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"depth_estimation_type": "metric"}))
    with pytest.raises(SsmdeError, match="set convention: depth"):
        TransformersPseudoDepth(depth_model, "inverse_depth")


@pytest.mark.parametrize("content", [None, "not json", '{"model_type": "bert"}', "{}"])
def test_folders_that_are_no_depth_model_are_refused_in_one_line(tmp_path, content):
    pytest.importorskip("transformers")
    if content is not None:
        (tmp_path / "config.json").write_text(content)
        (tmp_path / "preprocessor_config.json").write_text('{"image_processor_type": "DPTImageProcessor"}')
    with pytest.raises(SsmdeError, match="holds no depth model") as error:
        TransformersPseudoDepth(tmp_path, "depth")
    assert "\n" not in str(error.value)
    with pytest.raises(SsmdeError, match="does not exist"):
        TransformersPseudoDepth(tmp_path / "nowhere", "depth")


def test_nothing_asks_the_network(depth_model, monkeypatch):
    asked = []
    monkeypatch.setattr(socket.socket, "connect", lambda *place: asked.append(place))
    TransformersPseudoDepth(depth_model, "inverse_depth").predict(IMAGE, "a")
    with pytest.raises(SsmdeError, match="does not exist"):
        TransformersPseudoDepth(Path("Intel/dpt-large"), "inverse_depth")  # a name the library would look up
    assert asked == []
