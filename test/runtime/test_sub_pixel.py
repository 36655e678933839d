"""The sub-pixel form of the decoder's last level against the level itself, in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from ssmde_ros.networks import DepthNet, DepthNetConfig
from ssmde_ros.networks.decoder import DisparityDecoder
from ssmde_ros.runtime.live_net import LiveNet
from ssmde_ros.runtime.sub_pixel import SubPixelDecoder, faster_decoder, of_blocks

SMALL = st.integers(1, 4)


@settings(deadline=None, max_examples=50)
@given(inputs=SMALL, outputs=SMALL, height=SMALL, width=SMALL, bias=st.booleans(), seed=st.integers(0, 99))
def test_a_convolution_of_blocks_is_the_convolution_of_pixels(inputs, outputs, height, width, bias, seed):
    torch.manual_seed(seed)
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias).double()
    pixels = torch.randn(2, inputs, 2 * height, 2 * width, dtype=torch.float64)
    blocks = of_blocks(conv, repeated=False)(F.pixel_unshuffle(pixels, 2))
    torch.testing.assert_close(F.pixel_shuffle(blocks, 2), conv(pixels))
    small = pixels[:, :, :height, :width]
    repeated = F.interpolate(small, scale_factor=2.0, mode="nearest")
    torch.testing.assert_close(F.pixel_shuffle(of_blocks(conv, repeated=True)(small), 2), conv(repeated))


@settings(deadline=None, max_examples=10)
@given(height=st.integers(1, 3), width=st.integers(1, 3), seed=st.integers(0, 99))
def test_the_decoder_in_its_sub_pixel_form_gives_the_finest_map(height, width, seed):
    torch.manual_seed(seed)
    channels, widths = (3, 4, 5, 6, 7), (3, 4, 5, 6, 7)
    decoder = DisparityDecoder(channels, widths).double().eval()
    features = [
        torch.randn(1, c, height * 2**s, width * 2**s, dtype=torch.float64)
        for c, s in zip(channels, (4, 3, 2, 1, 0), strict=True)
    ]
    with torch.no_grad():
        (found,) = SubPixelDecoder(decoder)(features)
        torch.testing.assert_close(found, decoder(features, 1)[0])


def test_a_deployed_network_takes_the_form_where_there_is_one():
    plain = DisparityDecoder((3, 4, 5, 6, 7), (3, 4, 5, 6, 7))
    assert isinstance(faster_decoder(plain), SubPixelDecoder)
    assert isinstance(LiveNet(DepthNet()).decoder, SubPixelDecoder)


@pytest.mark.parametrize(
    "config",
    [
        DepthNetConfig(padding="reflect"),
        DepthNetConfig(dense_skips=True),
        DepthNetConfig(encoder="lite_mono", widths=(24, 40, 64)),
    ],
)
def test_other_decoders_stay_as_they_are(config):
    decoder = DepthNet(config).decoder
    assert faster_decoder(decoder) is decoder
    with pytest.raises(ValueError, match="zero padding and no dense skips"):
        SubPixelDecoder(decoder)
