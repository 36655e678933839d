import json
import logging
import socket
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks.leres import LeReS
from ssmde_ros.training.pseudo_depth import (
    CachedPseudoDepth,
    Degradation,
    FolderPseudoDepth,
    LeresPseudoDepth,
    PseudoDepthConfig,
    SyntheticPseudoDepth,
    TransformersPseudoDepth,
    make_provider,
)
from ssmde_ros.training.pseudo_depth.provider import digest_of

IMAGE = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)


def scene(seed=0, size=(24, 32)):
    """A floor that recedes, a box on it, and sky."""
    rng = np.random.default_rng(seed)
    depth = np.repeat(np.linspace(20, 2, size[0], dtype=np.float32)[:, None], size[1], 1)
    depth[size[0] // 3 : size[0] // 2, 4:12] = rng.uniform(1, 5)
    depth[0] = np.inf
    return depth


def image_of(depth):
    return np.zeros((*depth.shape, 3), np.uint8)


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


# --- synthetic -----------------------------------------------------------------------------------

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


# --- folder --------------------------------------------------------------------------------------


def test_maps_of_every_kind_are_read(tmp_path):
    values = np.arange(24 * 32, dtype=np.uint16).reshape(24, 32) * 80
    np.save(tmp_path / "a.npy", values.astype(np.float64) / 7)
    np.savez(tmp_path / "b.npz", depth=values.astype(np.float32))
    cv2.imwrite(str(tmp_path / "c.0.png"), values)
    provider = FolderPseudoDepth(tmp_path, "inverse_depth")
    assert provider.convention == "inverse_depth"
    np.testing.assert_array_equal(provider.predict(IMAGE, "a"), (values / 7).astype(np.float32))
    for name in ("b", "c.0"):
        depth = provider.predict(IMAGE, name)
        assert depth.dtype == np.float32
        np.testing.assert_array_equal(depth, values)


def test_maps_of_another_size_are_brought_to_that_of_the_image(tmp_path):
    np.save(tmp_path / "a.npy", np.tile(np.linspace(0, 1, 320, dtype=np.float32), (48, 1)))
    depth = FolderPseudoDepth(tmp_path, "depth").predict(IMAGE, "a")
    np.testing.assert_allclose(depth, np.tile((np.arange(32) + 0.5) / 32, (24, 1)), atol=2e-3)


@pytest.mark.parametrize("name", ["missing", "", "../a", "sub/a"])
def test_a_frame_without_a_map_is_named(tmp_path, name):
    (tmp_path / "maps" / "sub").mkdir(parents=True)
    for place in (tmp_path, tmp_path / "maps" / "sub"):
        np.save(place / "a.npy", np.ones((24, 32)))
    with pytest.raises(SsmdeError, match=f"has no {name}.npy"):
        FolderPseudoDepth(tmp_path / "maps", "depth").predict(IMAGE, name)


@pytest.mark.parametrize("kind", ["npy", "npz", "png"])
def test_unreadable_maps_are_refused_in_one_line(tmp_path, kind):
    (tmp_path / f"a.{kind}").write_bytes(b"garbage")
    with pytest.raises(SsmdeError, match=f"frame 'a': .*a.{kind} cannot be read") as error:
        FolderPseudoDepth(tmp_path, "depth").predict(IMAGE, "a")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.ones((24, 32, 3)), r"need \[H, W\]"),
        (np.ones((24, 32), bool), r"need \[H, W\]"),
        (np.full((240, 320), np.inf), "NaN or infinity"),
        (np.full((24, 32), 1e300), "NaN or infinity"),
        (np.array([["a"]], object), "cannot be read"),
    ],
)
def test_arrays_that_are_no_maps_are_refused(tmp_path, values, reason):
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(SsmdeError, match=reason):
        FolderPseudoDepth(tmp_path, "depth").predict(IMAGE, "a")


def test_a_picture_of_8_bit_is_no_map(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), IMAGE)
    with pytest.raises(SsmdeError, match="must be 16 bit grey"):
        FolderPseudoDepth(tmp_path, "depth").predict(IMAGE, "a")


# --- LeReS ---------------------------------------------------------------------------------------


def test_leres_gives_depth_at_the_size_of_the_image(tmp_path):
    torch.manual_seed(0)
    net = LeReS("resnet50").eval()
    path = tmp_path / "res50.pth"
    torch.save({"depth_model": net.state_dict()}, path)
    provider = LeresPseudoDepth(path)
    assert provider.convention == "depth"
    assert provider.identity == f"leres resnet50 {digest_of([path])} 448x448"
    depth = provider.predict(IMAGE, "a")
    wanted = net.predict(torch.from_numpy(IMAGE).permute(2, 0, 1)[None] / 255)[0, 0].numpy()
    np.testing.assert_allclose(depth, wanted, rtol=1e-5, atol=1e-6)


def test_the_digest_follows_the_content(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"one")
    before = digest_of([path])
    path.write_bytes(b"two")
    assert digest_of([path]) != before


# --- transformers --------------------------------------------------------------------------------


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


# --- settings ------------------------------------------------------------------------------------


def test_none_gives_none_and_may_keep_its_settings(tmp_path):
    assert make_provider(PseudoDepthConfig()) is None
    assert make_provider(PseudoDepthConfig("none", tmp_path, "depth", tmp_path)) is None


def test_the_factory_makes_what_is_asked_for(tmp_path):
    folder = make_provider(PseudoDepthConfig("folder", tmp_path, "inverse_depth"))
    assert isinstance(folder, FolderPseudoDepth)
    assert folder.convention == "inverse_depth"
    path = tmp_path / "res50.pth"
    state = {n: torch.zeros((), dtype=t.dtype).expand(t.shape) for n, t in LeReS("resnet50").state_dict().items()}
    torch.save({"depth_model": state}, path)
    assert isinstance(make_provider(PseudoDepthConfig("leres", path)), LeresPseudoDepth)
    cached = make_provider(PseudoDepthConfig("leres", path, cache=tmp_path / "cache"))
    assert isinstance(cached, CachedPseudoDepth)
    assert cached.convention == "depth"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"kind": "midas"}, "must be one of none, leres, transformers, folder"),
        ({"kind": "leres"}, r"set pseudo\.path"),
        ({"kind": "leres", "path": Path("a"), "convention": "inverse_depth"}, "LeReS gives depth"),
        ({"kind": "folder", "path": Path("a")}, r"set pseudo\.convention"),
        ({"kind": "transformers", "path": Path("a")}, r"set pseudo\.convention"),
        ({"kind": "folder", "path": Path("a"), "convention": "depth", "cache": Path("b")}, "needs no cache"),
        ({"convention": "metres"}, "must be auto, depth or inverse_depth"),
    ],
)
def test_impossible_settings_are_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        PseudoDepthConfig(**values)


@pytest.mark.parametrize("kind", ["leres", "folder"])
def test_files_that_are_not_there_are_named(tmp_path, kind):
    path = tmp_path / "nowhere"
    with pytest.raises(SsmdeError, match=f"{path} does not exist"):
        make_provider(PseudoDepthConfig(kind, path, "depth"))


def test_nothing_asks_the_network(depth_model, monkeypatch):
    asked = []
    monkeypatch.setattr(socket.socket, "connect", lambda *place: asked.append(place))
    TransformersPseudoDepth(depth_model, "inverse_depth").predict(IMAGE, "a")
    with pytest.raises(SsmdeError, match="does not exist"):
        TransformersPseudoDepth(Path("Intel/dpt-large"), "inverse_depth")  # a name the library would look up
    assert asked == []
