import json

import pytest
import torch
from safetensors import safe_open

from ssmde_ros.networks import DepthNet, DepthNetConfig, disparity_to_depth, load_depth_net, save_depth_net
from ssmde_ros.networks.config import ENCODER_LEVELS
from ssmde_ros.networks.depth_net import depth_to_disparity
from ssmde_ros.networks.encoders import ENCODERS, SamePadConv2d
from ssmde_ros.networks.lite_mono import LiteMono
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime.live_net import LiveNet


@pytest.mark.parametrize("encoder", ["efficientnet_lite0", "resnet18"])
@pytest.mark.parametrize("size", [(64, 96), (32, 32)])
def test_four_scales_of_disparity_inside_the_unit_interval(encoder, size):
    net = DepthNet(DepthNetConfig(encoder)).eval()
    with torch.inference_mode():
        maps = net(torch.rand(2, 3, *size))
    assert [tuple(m.shape) for m in maps] == [(2, 1, size[0] // s, size[1] // s) for s in (1, 2, 4, 8)]
    assert all(((m > 0) & (m < 1)).all() for m in maps)


@pytest.mark.parametrize("encoder", ["efficientnet_lite0", "resnet18", "lite_mono"])
def test_new_heads_see_the_middle_of_the_range_and_none_is_saturated(encoder):
    torch.manual_seed(0)
    net = DepthNet(DepthNetConfig(encoder, widths=(24, 40, 64) if encoder == "lite_mono" else (8, 16, 24, 40, 64)))
    if encoder == "efficientnet_lite0":
        net.load_imagenet()  # features of a trained encoder are large
    with torch.inference_mode():
        maps = net.eval()(torch.rand(1, 3, 128, 160))
    for sigma in maps:
        depth = disparity_to_depth(sigma, 0.1, 100.0)
        assert 1.6 < depth.median() < 6.4  # sqrt(0.1 * 100) = 3.16 m
        assert sigma.max() < 0.5


def test_disparity_and_depth_are_each_others_inverse():
    for depth in (0.1, 0.5, 3.0, 100.0):
        sigma = torch.tensor(depth_to_disparity(depth, 0.1, 100.0), dtype=torch.float64)
        assert disparity_to_depth(sigma, 0.1, 100.0).item() == pytest.approx(depth)


def test_live_inference_computes_the_finest_head_only():
    net = DepthNet().eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        (only,) = net(image, scales=1)
        torch.testing.assert_close(only, net(image)[0])


def test_default_student_is_the_one_of_the_design():
    net = DepthNet()
    assert net.config.widths == (8, 16, 24, 40, 64)
    assert 3.2e6 < sum(p.numel() for p in net.parameters()) < 3.4e6


def test_imagenet_weights_load_strictly():
    net = DepthNet()
    before = net.encoder.stem[0].weight.clone()
    net.load_imagenet()
    assert not torch.equal(before, net.encoder.stem[0].weight)
    with pytest.raises(ValueError, match="resnet18"):
        DepthNet(DepthNetConfig("resnet18")).load_imagenet()


def test_disparity_spans_exactly_the_depth_range():
    sigma = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert disparity_to_depth(sigma, 0.1, 100.0).tolist() == pytest.approx([100.0, 0.1])


def test_depth_falls_with_disparity_and_has_the_right_gradient():
    sigma = torch.rand(5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: disparity_to_depth(s, 0.5, 50.0), sigma)


def test_same_padding_puts_the_odd_pixel_right_and_below():
    conv = SamePadConv2d(1, 1, 3, 2, bias=False)
    torch.nn.init.ones_(conv.weight)
    with torch.no_grad():
        out = conv(torch.ones(1, 1, 4, 4))
    # The last window hangs over the edge by one pixel; the first one does not.
    assert out.flatten().tolist() == [9, 6, 6, 4]


def test_folding_batch_norm_changes_nothing_but_the_speed():
    torch.manual_seed(1)
    net = DepthNet().eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    image = torch.randint(0, 255, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        plain = net.depth(image.permute(0, 3, 1, 2) / 255)[:, 0]
        live = LiveNet(net)
        assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in live.modules()) == 0
        torch.testing.assert_close(live(image), plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"encoder": "vgg"}, "unknown encoder"),
        ({"widths": (1, 2, 3)}, "widths"),
        ({"input_width": 100}, "multiples of 32"),
        ({"min_depth": 0.0}, "min_depth"),
        ({"min_depth": 5.0, "max_depth": 4.0}, "min_depth"),
        ({"scale_kind": "vague"}, "scale_kind"),
        ({"dense_skips": 1}, "dense_skips"),
    ],
)
def test_impossible_configurations_are_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        DepthNetConfig(**values)


# --- dense skip connections ----------------------------------------------------------------------

DENSE = DepthNetConfig(input_width=64, input_height=64, dense_skips=True)


@pytest.mark.parametrize("encoder", ["efficientnet_lite0", "resnet18"])
def test_dense_skips_keep_the_shapes_and_add_parameters(encoder):
    dense, plain = DepthNet(DepthNetConfig(encoder, dense_skips=True)).eval(), DepthNet(DepthNetConfig(encoder))
    with torch.inference_mode():
        maps = dense(torch.rand(2, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(2, 1, 64 // s, 96 // s) for s in (1, 2, 4, 8)]
    assert sum(p.numel() for p in dense.parameters()) > sum(p.numel() for p in plain.parameters())


def test_dense_skips_let_the_gradient_reach_every_parameter():
    torch.manual_seed(0)
    net = DepthNet(DENSE).train()
    torch.stack([m.square().mean() for m in net(torch.rand(2, 3, 64, 64))]).sum().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_dense_skips_show_the_finest_level_every_deeper_encoder_level():
    """With the way down through the levels cut, the finest head still depends on each feature map."""
    torch.manual_seed(0)
    decoder = DepthNet(DENSE).decoder
    for level in range(5):
        torch.nn.init.zeros_(decoder.reduce[level].conv.weight)
    sizes = zip((16, 24, 40, 112, 320), (32, 16, 8, 4, 2), strict=True)
    features = [torch.rand(1, c, s, s, requires_grad=True) for c, s in sizes]
    decoder(features, scales=1)[0].sum().backward()
    assert all(f.grad.abs().sum() > 0 for f in features)


def test_dense_skips_survive_the_round_trip(tmp_path):
    net = DepthNet(DENSE).eval()
    save_depth_net(net, tmp_path / "dense.safetensors", {})
    again, info = load_depth_net(tmp_path / "dense.safetensors")
    assert info.config == DENSE
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(net.depth(image), again.depth(image))


def test_weight_files_without_dense_skips_say_what_they_always_said(tmp_path):
    assert load_depth_net(default_weights())[1].digest == "7124d2620575"
    save_depth_net(DepthNet(), tmp_path / "plain.safetensors", {})
    with safe_open(tmp_path / "plain.safetensors", framework="pt") as file:
        names = set(json.loads(file.metadata()["config"]))
        tensors = set(file.keys())
    assert names == {"encoder", "widths", "input_width", "input_height", "min_depth", "max_depth", "scale_kind"}
    assert not [name for name in tensors if "dense" in name]


def test_dense_skips_deploy_to_one_map():
    net = DepthNet(DENSE).eval()
    image = torch.randint(0, 255, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        live = LiveNet(net)(image)
        torch.testing.assert_close(live, net.depth(image.permute(0, 3, 1, 2) / 255)[:, 0], rtol=1e-4, atol=1e-5)


def test_the_encoders_have_the_levels_that_configurations_count_on():
    assert {name: len(encoder.channels) for name, encoder in ENCODERS.items()} == ENCODER_LEVELS
    assert {name for name, encoder in ENCODERS.items() if issubclass(encoder, LiteMono)} == {
        name for name in ENCODER_LEVELS if name.startswith("lite_mono")
    }
