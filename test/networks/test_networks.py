import pytest
import torch

from ssmde_ros.networks import DepthNet, DepthNetConfig, disparity_to_depth
from ssmde_ros.networks.encoders import SamePadConv2d
from ssmde_ros.runtime.engines import LiveNet


@pytest.mark.parametrize("encoder", ["efficientnet_lite0", "resnet18"])
@pytest.mark.parametrize("size", [(64, 96), (32, 32)])
def test_four_scales_of_disparity_inside_the_unit_interval(encoder, size):
    net = DepthNet(DepthNetConfig(encoder)).eval()
    with torch.inference_mode():
        maps = net(torch.rand(2, 3, *size))
    assert [tuple(m.shape) for m in maps] == [(2, 1, size[0] // s, size[1] // s) for s in (1, 2, 4, 8)]
    assert all(((m > 0) & (m < 1)).all() for m in maps)


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
    ],
)
def test_impossible_configurations_are_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        DepthNetConfig(**values)
