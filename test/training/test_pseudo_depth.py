"""Pseudo-depth imitated from truth, and the cache that every provider is behind."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.errors import SsmdeError
from ssmde_ros.training.pseudo_depth import (
    CachedPseudoDepth,
    Degradation,
    SyntheticPseudoDepth,
)
from test.training.depth_scenes import IMAGE, correlation, scene

degradations = st.builds(
    Degradation,
    seed=st.integers(0, 2**31),
    affine=st.booleans(),
    blur=st.floats(0, 3),
    warp=st.floats(0, 0.3),
    bias=st.floats(0, 0.3),
    noise=st.floats(0, 0.1),
)
conventions = st.sampled_from(["depth", "inverse_depth"])


@given(degradations, conventions, st.text(max_size=8))
@settings(deadline=None, max_examples=40)
def test_synthetic_maps_depend_on_seed_and_name_only(how, convention, name):
    truth = scene()
    one = SyntheticPseudoDepth({name: truth}, convention, how)
    other = SyntheticPseudoDepth(lambda _: truth.copy(), convention, how)
    other.predict(IMAGE, "what came before does not matter")
    depth = one.predict(IMAGE, name)
    assert depth.dtype == np.float32
    assert depth.shape == truth.shape
    assert np.isfinite(depth).all()
    assert np.array_equal(depth, other.predict(255 - IMAGE, name))
    assert one.identity == other.identity
    assert one.identity != SyntheticPseudoDepth({}, convention, Degradation(how.seed + 1)).identity


@given(st.integers(0, 1000), conventions)
@settings(deadline=None, max_examples=25)
def test_without_errors_it_is_the_truth_up_to_scale_and_shift(seed, convention):
    truth = scene(seed)
    how = Degradation(seed, blur=0, warp=0, noise=0)
    depth = SyntheticPseudoDepth(lambda _: truth, convention, how).predict(IMAGE, "a")
    wanted = np.minimum(truth, 100) if convention == "depth" else 1 / np.minimum(truth, 100)
    slope, shift = np.polyfit(wanted.ravel(), depth.ravel().astype(np.float64), 1)
    assert np.exp(-1) <= slope <= np.exp(1)
    np.testing.assert_allclose(slope * wanted + shift, depth, rtol=0, atol=1e-5 * np.abs(depth).max())


def test_each_image_gets_its_own_scale_shift_and_warp():
    truth = scene()
    how = Degradation(blur=0, noise=0, warp=0.2)
    provider = SyntheticPseudoDepth(lambda _: truth, "depth", how)
    a, b = provider.predict(IMAGE, "a"), provider.predict(IMAGE, "b")
    assert correlation(a, b) > 0.9
    assert np.abs(np.polyval(np.polyfit(a.ravel(), b.ravel(), 1), a) - b).max() > 1e-3


def test_bias_is_the_error_that_averaging_over_images_does_not_cure():
    truth = np.full((24, 32), 4.0, np.float32)

    def error(**how):
        quiet = Degradation(affine=False, blur=0, noise=0.0, **{"warp": 0.0} | how)
        provider = SyntheticPseudoDepth(lambda _: truth, "depth", quiet)
        return np.log(np.mean([provider.predict(IMAGE, str(n)) / truth for n in range(200)], 0))

    assert np.abs(error(warp=0.2)).max() < 0.06
    assert np.abs(error(warp=0.2, bias=0.2)).max() > 0.1
    np.testing.assert_allclose(error(bias=0.2), 2 * error(bias=0.1), atol=1e-5)


@pytest.mark.parametrize("hole", [0.0, -1.0, np.nan])
def test_it_imitates_dense_truth_only(hole):
    truth = scene()
    truth[3, 3] = hole
    with pytest.raises(SsmdeError, match="frame 'a' has holes"):
        SyntheticPseudoDepth({"a": truth}, "depth").predict(IMAGE, "a")
    with pytest.raises(SsmdeError, match="no true depth for frame 'b'"):
        SyntheticPseudoDepth({"a": truth}, "depth").predict(IMAGE, "b")
    with pytest.raises(SsmdeError, match="frame 'a' is"):
        SyntheticPseudoDepth({"a": scene(size=(12, 16))}, "depth").predict(IMAGE, "a")


@pytest.mark.parametrize("values", [{"blur": -1.0}, {"noise": float("nan")}, {"max_depth": 0.0}])
def test_impossible_degradations_are_refused(values):
    with pytest.raises(ValueError, match="must be"):
        Degradation(**values)


# --- cache ---------------------------------------------------------------------------------------


class Counting:
    """A provider that gives prepared values and says how often it was asked."""

    convention = "inverse_depth"

    def __init__(self, values, identity="counting"):
        self.values, self.identity, self.calls = values, identity, 0

    def predict(self, image, name):
        self.calls += 1
        return self.values


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9), st.floats(-30, 30))
@settings(deadline=None, max_examples=25)
def test_the_cache_gives_back_bit_for_bit(tmp_path_factory, seed, height, width, exponent):
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(height, width)) * 10**exponent).astype(np.float32)
    image = rng.integers(0, 255, (height, width, 3), np.uint8)
    folder = tmp_path_factory.mktemp("cache")
    first, second = Counting(values), Counting(values + 1)
    assert CachedPseudoDepth(first, folder).predict(image, "a").tobytes() == values.tobytes()
    again = CachedPseudoDepth(second, folder).predict(image, "another name")
    assert again.tobytes() == values.tobytes()
    assert again.dtype == np.float32
    assert (first.calls, second.calls) == (1, 0)


def test_other_pixels_sizes_and_providers_do_not_meet(tmp_path):
    provider = Counting(np.ones((24, 32), np.float32))
    cached = CachedPseudoDepth(provider, tmp_path / "deep" / "cache")
    assert (cached.convention, cached.identity) == ("inverse_depth", "counting")
    cached.predict(IMAGE, "a")
    changed = IMAGE.copy()
    changed[0, 0, 0] ^= 1
    cached.predict(changed, "a")
    assert provider.calls == 2
    turned = Counting(np.ones((32, 24), np.float32))
    CachedPseudoDepth(turned, tmp_path / "deep" / "cache").predict(IMAGE.reshape(32, 24, 3), "a")
    other = Counting(np.ones((24, 32), np.float32), "other weights")
    CachedPseudoDepth(other, tmp_path / "deep" / "cache").predict(IMAGE, "a")
    assert (turned.calls, other.calls) == (1, 1)
    assert len(list((tmp_path / "deep" / "cache").iterdir())) == 4  # and nothing temporary


def test_a_view_with_gaps_has_the_key_of_its_pixels(tmp_path):
    provider = Counting(np.ones((24, 32), np.float32))
    cached = CachedPseudoDepth(provider, tmp_path)
    cached.predict(IMAGE, "a")
    planar = torch.from_numpy(IMAGE).permute(2, 0, 1).contiguous()
    cached.predict(planar.permute(1, 2, 0).numpy(), "a")
    assert provider.calls == 1


def flipped_bit(whole):
    middle = whole.index(b"NUMPY") + 200
    return whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]


@pytest.mark.parametrize("damage", [lambda w: b"", lambda w: w[: len(w) // 2], lambda w: b"x" * 99, flipped_bit])
def test_a_damaged_file_is_computed_again_with_one_warning(tmp_path, caplog, damage):
    values = scene().clip(0, 50)
    provider = Counting(values)
    cached = CachedPseudoDepth(provider, tmp_path)
    cached.predict(IMAGE, "a")
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(cached.predict(IMAGE, "a"), values)
        assert np.array_equal(cached.predict(IMAGE, "a"), values)
    assert provider.calls == 2
    (record,) = caplog.records
    assert str(path) in record.getMessage()
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize("entry", [{"depth": np.ones((2, 2), np.float32)}, {"depth": np.ones((24, 32))}, {"x": [1]}])
def test_a_file_with_other_content_is_computed_again(tmp_path, caplog, entry):
    provider = Counting(np.ones((24, 32), np.float32))
    cached = CachedPseudoDepth(provider, tmp_path)
    cached.predict(IMAGE, "a")
    (path,) = tmp_path.iterdir()
    np.savez(path, **entry)
    cached.predict(IMAGE, "a")
    assert (provider.calls, len(caplog.records)) == (2, 1)


def test_values_that_are_not_finite_name_the_frame_and_are_not_kept(tmp_path):
    values = np.ones((24, 32), np.float32)
    values[1, 1] = np.nan
    with pytest.raises(SsmdeError, match="frame 'a' has 1 values that are NaN or infinite"):
        CachedPseudoDepth(Counting(values), tmp_path).predict(IMAGE, "a")
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_made_or_written_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    provider = Counting(np.ones((24, 32), np.float32))
    with pytest.raises(SsmdeError, match="cannot be made"):
        CachedPseudoDepth(provider, tmp_path / "file")
    cached = CachedPseudoDepth(provider, tmp_path / "cache")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(SsmdeError, match="cannot be written .*No space"):
        cached.predict(IMAGE, "a")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("image", [IMAGE[..., 0], IMAGE.astype(np.float32), IMAGE[:0]])
def test_what_is_not_an_rgb_image_is_refused(tmp_path, image):
    with pytest.raises(ValueError, match="RGB image"):
        CachedPseudoDepth(Counting(np.ones((24, 32), np.float32)), tmp_path).predict(image, "a")
