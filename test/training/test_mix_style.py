import torch
from torch import nn

from ssmde_ros.training.mix_style import StyleMixer, mix_style, style


def features(seed=0, count=3):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(count, 5, 1, 1, generator=generator, dtype=torch.float64) * 4 + 0.5
    return torch.randn(count, 5, 6, 7, generator=generator, dtype=torch.float64) * scale + 3 * scale


def statistics(x):
    return x.mean((2, 3)), x.var((2, 3), unbiased=False)


def test_a_whole_share_of_its_own_changes_nothing():
    x = features()
    torch.testing.assert_close(mix_style(x, torch.ones(3, dtype=torch.float64), style(x)[[2, 0, 1]]), x)


def test_no_share_of_its_own_takes_the_statistics_of_the_other_and_keeps_where_things_are():
    x, order = features(), torch.tensor([2, 0, 1])
    mixed = mix_style(x, torch.zeros(3, dtype=torch.float64), style(x)[order])
    for found, wanted in zip(statistics(mixed), statistics(x), strict=True):
        torch.testing.assert_close(found, wanted[order], rtol=1e-4, atol=1e-6)
    for one, other in zip(x.flatten(2).flatten(0, 1), mixed.flatten(2).flatten(0, 1), strict=True):
        assert torch.equal(one.argsort(), other.argsort())


def test_gradients_see_a_fixed_affine_map():
    x = features().requires_grad_()
    share, order = torch.full((3,), 0.4, dtype=torch.float64), torch.tensor([1, 2, 0])
    (gradient,) = torch.autograd.grad(mix_style(x, share, style(x)[order]).sum(), x)
    deviation = x.var((2, 3), unbiased=False).add(1e-6).sqrt()
    expected = (0.4 * deviation + 0.6 * deviation[order]) / deviation
    torch.testing.assert_close(gradient, expected.detach()[..., None, None].expand_as(x))


def test_only_while_it_is_active_and_with_its_probability():
    torch.manual_seed(0)
    layer, x = nn.Identity(), features().float()
    always = StyleMixer([layer], 1.0)
    assert torch.equal(layer(x), x)
    always.active = True
    assert not torch.allclose(layer(x), x)
    layer = nn.Identity()
    StyleMixer([layer], 0.0).active = True
    assert torch.equal(layer(x), x)


def test_remembered_styles_are_taken_every_other_time():
    torch.manual_seed(0)
    layer, x = nn.Identity(), features(count=64).float()
    mixer = StyleMixer([layer], 1.0, concentration=1e-3)  # shares of all or nothing
    mixer.remember(layer, torch.zeros(2, 5, 6, 7) + 7)  # flat pictures: their features have no deviation
    mixer.active = True
    mixed = layer(x)
    flat = (mixed - 7).abs().amax((1, 2, 3)) < 0.1
    assert 6 <= flat.sum() <= 26, "about a quarter: half of the shares are nothing, half of the styles remembered"
