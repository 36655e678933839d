import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.data.images import ImageFormatError, decode_compressed, decode_depth, decode_image

RNG = np.random.default_rng(0)


def message(values, encoding, pad=0, big=False):
    """An image message of an array `[H, W]` or `[H, W, C]`, with `pad` bytes behind each row."""
    values = np.ascontiguousarray(values)
    if values.dtype.itemsize > 1:
        values = values.astype(values.dtype.newbyteorder(">" if big else "<"))
    height, width = values.shape[:2]
    rows = np.frombuffer(values.tobytes(), np.uint8).reshape(height, -1)
    rows = np.hstack([rows, np.full((height, pad), 205, np.uint8)])
    return SimpleNamespace(
        height=height, width=width, encoding=encoding, is_bigendian=int(big), step=rows.shape[1], data=rows.tobytes()
    )


def smooth(height, width):
    """A picture without sharp edges, so that subsampled color and demosaicing come close to it."""
    y, x = np.mgrid[:height, :width] / 40.0
    return np.stack([120 + 80 * np.sin(x), 130 + 60 * np.cos(y), 110 + 70 * np.sin(x + y)], -1).astype(np.uint8)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 17), width=st.integers(1, 17), pad=st.integers(0, 9),
    encoding=st.sampled_from(["rgb8", "bgr8", "rgba8", "bgra8", "8UC3"]),
)  # fmt: skip
def test_interleaved_color_is_exact_at_any_size_and_padding(height, width, pad, encoding):
    rgb = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    alpha = RNG.integers(0, 256, (height, width, 1), dtype=np.uint8)
    stored = rgb[..., ::-1] if encoding.startswith(("bgr", "8U")) else rgb
    stored = np.concatenate([stored, alpha], -1) if "a8" in encoding else stored
    assert np.array_equal(decode_image(message(stored, encoding, pad)), rgb)


@settings(max_examples=20, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    pad=st.integers(0, 3),
    encoding=st.sampled_from(["mono8", "8UC1"]),
)
def test_mono_is_grey(height, width, pad, encoding):
    grey = RNG.integers(0, 256, (height, width), dtype=np.uint8)
    assert np.array_equal(decode_image(message(grey, encoding, pad)), np.repeat(grey[..., None], 3, -1))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pad", [0, 2, 3])
def test_sixteen_bits_are_rounded_in_either_byte_order(big, pad):
    deep = np.array([[0, 128, 129, 257], [1000, 32768, 65407, 65535]], np.uint16)
    expected = np.rint(deep / 257).astype(np.uint8)
    for encoding in ("mono16", "16UC1"):
        assert np.array_equal(decode_image(message(deep, encoding, pad, big))[..., 0], expected)
    color = RNG.integers(0, 65536, (3, 5, 3), dtype=np.uint16)
    for encoding, order in (("rgb16", 1), ("bgr16", -1)):
        decoded = decode_image(message(color[..., ::order], encoding, pad, big))
        assert np.array_equal(decoded, np.rint(color / 257).astype(np.uint8))
    rgba = np.concatenate([color, color[..., :1]], -1)
    assert np.array_equal(decode_image(message(rgba, "rgba16", pad, big)), np.rint(color / 257).astype(np.uint8))


@pytest.mark.parametrize(("encoding", "luma"), [("uyvy", 1), ("yuv422", 1), ("yuyv", 0), ("yuv422_yuy2", 0)])
@pytest.mark.parametrize("pad", [0, 4])
def test_yuv422_comes_back_as_the_picture_it_was(encoding, luma, pad):
    rgb = smooth(31, 40)
    yuv = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV).astype(int)
    # COLOR_RGB2YUV has full-range luma; cameras store 16..235 and 16..240.
    y = np.rint(16 + yuv[..., 0] * 219 / 255)
    r, g, b = (rgb[..., i].astype(float) for i in range(3))
    u = 128 + (-0.148 * r - 0.291 * g + 0.439 * b)
    v = 128 + (0.439 * r - 0.368 * g - 0.071 * b)
    packed = np.empty((31, 40, 2), np.uint8)
    packed[..., luma] = y
    packed[:, 0::2, 1 - luma] = np.rint((u[:, 0::2] + u[:, 1::2]) / 2)
    packed[:, 1::2, 1 - luma] = np.rint((v[:, 0::2] + v[:, 1::2]) / 2)
    decoded = decode_image(message(packed, encoding, pad)).astype(int)
    assert np.abs(decoded - rgb).mean() < 2.5


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize(("order", "pattern"), [("rggb", "RGGB"), ("bggr", "BGGR"), ("gbrg", "GBRG"), ("grbg", "GRBG")])
def test_bayer_patterns_have_the_colors_where_they_belong(order, pattern, bits, big):
    rgb = smooth(35, 41)
    raw = np.empty(rgb.shape[:2], np.uint8)
    for place, color in enumerate(pattern):
        row, column = divmod(place, 2)
        raw[row::2, column::2] = rgb[row::2, column::2, "RGB".index(color)]
    raw = raw.astype(np.uint16) * 257 if bits == 16 else raw
    decoded = decode_image(message(raw, f"bayer_{order}{bits}", 6, big)).astype(int)
    assert np.abs(decoded - rgb)[3:-3, 3:-3].mean() < 2.5


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_compressed_pictures(suffix):
    rgb = smooth(33, 47)
    _, code = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    decoded = decode_compressed(SimpleNamespace(format=f"bgr8; {suffix[1:]} compressed bgr8", data=code.tobytes()))
    assert np.abs(decoded.astype(int) - rgb).max() <= (0 if suffix == ".png" else 12)


def test_grey_compressed_pictures_have_three_equal_channels():
    _, code = cv2.imencode(".png", np.arange(35, dtype=np.uint8).reshape(5, 7))
    decoded = decode_compressed(SimpleNamespace(format="mono8; png", data=code.tobytes()))
    assert decoded.shape == (5, 7, 3)
    assert (decoded == decoded[..., :1]).all()


def test_rgb8_without_padding_is_a_view():
    made = message(smooth(4, 4), "rgb8")
    assert np.shares_memory(decode_image(made), np.frombuffer(made.data, np.uint8))


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pad", [0, 1, 4])
def test_depth_is_metres_in_either_encoding(big, pad):
    metres = np.array([[0.0, 1.5], [2.25, 65.5]], np.float32)
    assert np.array_equal(decode_depth(message(metres, "32FC1", pad, big)), metres)
    millimetres = (metres * 1000).astype(np.uint16)
    np.testing.assert_allclose(decode_depth(message(millimetres, "16UC1", pad, big)), metres, rtol=1e-6)


def test_the_last_row_may_lack_its_padding():
    made = message(smooth(3, 3), "rgb8", pad=5)
    made.data = made.data[:-5]
    assert np.array_equal(decode_image(made), smooth(3, 3))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoding": "rgb9"}, "unknown image encoding 'rgb9'"),
        ({"encoding": "32FC1"}, "unknown image encoding"),
        ({"step": 2}, "step is 2 bytes"),
        ({"height": 0}, "0 pixels"),
        ({"width": 0}, "0x"),
        ({"data": b"123"}, "truncated: 3 bytes of"),
        ({"encoding": "yuyv", "width": 5, "step": 15}, "odd width 5"),
    ],
)
def test_broken_images_are_refused_with_the_reason(changes, reason):
    made = SimpleNamespace(**(vars(message(smooth(4, 6), "rgb8")) | changes))
    with pytest.raises(ImageFormatError, match=reason):
        decode_image(made)


@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff"])
def test_broken_compressed_images_are_refused(data):
    with pytest.raises(ImageFormatError, match="cannot be decoded"):
        decode_compressed(SimpleNamespace(format="jpeg", data=data))
    with pytest.raises(ImageFormatError, match="compressedDepth"):
        decode_compressed(SimpleNamespace(format="16UC1; compressedDepth png", data=data))


@settings(max_examples=150, deadline=None)
@given(
    height=st.integers(-1, 6), width=st.integers(-1, 6), step=st.integers(0, 30), big=st.integers(0, 2),
    encoding=st.sampled_from(["rgb8", "mono16", "bayer_rggb8", "yuyv", "32FC1", "", "bgra16"]), data=st.binary(max_size=200),
)  # fmt: skip
def test_whatever_arrives_is_decoded_or_refused_in_words(height, width, step, big, encoding, data):
    made = SimpleNamespace(height=height, width=width, step=step, is_bigendian=big, encoding=encoding, data=data)
    try:
        decoded = decode_image(made)
    except ImageFormatError:
        return
    assert decoded.shape == (height, width, 3)
    assert decoded.dtype == np.uint8


def test_these_tests_know_their_own_byte_order():
    assert sys.byteorder == "little"
