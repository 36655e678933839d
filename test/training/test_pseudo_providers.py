"""Where pseudo-depth comes from: a folder of maps, LeReS, and the settings that choose."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks.leres import LeReS
from ssmde_ros.training.pseudo_depth import (
    CachedPseudoDepth,
    FolderPseudoDepth,
    LeresPseudoDepth,
    PseudoDepthConfig,
    make_provider,
)
from ssmde_ros.training.pseudo_depth.provider import digest_of
from test.training.depth_scenes import IMAGE


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
