import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ssmde_ros.networks import WeightsError, load_depth_net, save_depth_net
from ssmde_ros.networks.identity import read_depth_net
from ssmde_ros.runtime import DepthEstimator, EngineConfig, EstimatorConfig, create_engine
from ssmde_ros.runtime.create import to_compile
from ssmde_ros.runtime.engine_cache import cache_folder, engine_path, read_engine, write_engine
from ssmde_ros.runtime.precompile import precompile

ov = pytest.importorskip("openvino", reason="OpenVINO is optional and not installed")
CONFIG = EngineConfig("openvino", "cpu")
SIZE = (64, 96)
IMAGE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def engine(weights):
    """Makes the engine of the small network, and gives what it says of an image."""
    net, info = load_depth_net(weights)
    return lambda: create_engine(net, SIZE, CONFIG, info.digest).infer(IMAGE).copy()


def the_file():
    (path,) = cache_folder().glob("*")
    return path


def no_compiler(*_, **__):
    raise AssertionError("compiled again")


def test_a_kept_engine_is_read_and_not_compiled(engine, monkeypatch):
    first = engine()
    monkeypatch.setattr(ov, "convert_model", no_compiler)
    np.testing.assert_array_equal(engine(), first)


def test_without_an_identity_nothing_is_kept(weights):
    create_engine(load_depth_net(weights)[0], SIZE, CONFIG)
    assert not cache_folder().exists()


def test_a_damaged_engine_is_compiled_anew_with_a_warning(engine, caplog):
    first, path = engine(), the_file()
    whole = path.read_bytes()
    for harmed in (whole[:1000], b"", whole[:5000] + b"x" + whole[5001:]):
        path.write_bytes(harmed)
        caplog.clear()
        np.testing.assert_array_equal(engine(), first)
        assert [record.message for record in caplog.records] == [f"engine cache {path} is damaged: compiling anew"]
        assert read_engine(path) is not None


def test_whole_bytes_that_are_no_engine_are_compiled_anew_with_a_warning(engine, caplog):
    first, path = engine(), the_file()
    write_engine(path, b"not an engine of any version")
    np.testing.assert_array_equal(engine(), first)
    (record,) = caplog.records
    assert "cannot be used" in record.message and str(path) in record.message and "\n" not in record.message


def test_a_disk_that_refuses_costs_a_warning(engine, tmp_path, caplog):
    (tmp_path / "cache").write_text("in the way")
    assert np.isfinite(engine()).all()
    # Once when it is looked for, once when it could not be kept.
    assert len(caplog.records) == 2 and all("cache" in record.message for record in caplog.records)


def test_the_file_depends_on_all_that_the_engine_depends_on(monkeypatch, tmp_path):
    same = engine_path("abc", (64, 96), "1.0", 2)
    assert same == engine_path("abc", (64, 96), "1.0", 2)
    others = [
        ("abd", (64, 96), "1.0", 2),
        ("abc", (96, 64), "1.0", 2),
        ("abc", (64, 96), "1.1", 2),
        ("abc", (64, 96), "1.0", 3),
    ]
    assert len({same, *(engine_path(*other) for other in others)}) == 5
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "ssmde_ros" / "engines"


def test_only_the_engines_used_last_are_kept():
    paths = [engine_path(f"{number:012d}", SIZE) for number in range(40)]
    for number, path in enumerate(paths):
        write_engine(path, b"x")
        os.utime(path, (number, number))
        assert read_engine(paths[0]) == b"x"  # used now, again and again
    left = set(cache_folder().glob("*.engine"))
    assert len(left) == 32 and paths[0] in left and paths[-1] in left and paths[1] not in left


def test_precompile_leaves_what_the_estimator_then_reads(weights, monkeypatch):
    info = load_depth_net(weights)[1]
    assert to_compile(info.config, SIZE, CONFIG, info.digest) == ["openvino"]
    precompile(info, [SIZE], CONFIG, threading.Event())
    assert not to_compile(info.config, SIZE, CONFIG, info.digest)
    monkeypatch.setattr(ov, "convert_model", no_compiler)
    assert DepthEstimator(weights, EstimatorConfig(CONFIG)).engine.name == "openvino"


def test_precompile_stops_at_once_when_asked(weights):
    info = load_depth_net(weights)[1]
    stop, started = threading.Event(), time.monotonic()
    threading.Timer(0.5, stop.set).start()
    precompile(info, [SIZE], CONFIG, stop)
    assert to_compile(info.config, SIZE, CONFIG, info.digest) == ["openvino"]
    precompile(info, [SIZE], CONFIG, stop)
    assert time.monotonic() - started < 20


def test_a_compiler_that_fails_elsewhere_is_a_warning_with_its_last_line(weights, tmp_path, caplog, monkeypatch):
    info = load_depth_net(weights)[1]
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    precompile(info, [SIZE], CONFIG, threading.Event())
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'this and that' >&2\necho 'MemoryError' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    precompile(info, [SIZE], CONFIG, threading.Event())
    first, second = (record.message for record in caplog.records)
    assert first.startswith("no process to compile in")
    assert second == "compiling in a process of its own failed: MemoryError: compiling among the frames"


def test_a_user_without_a_home_gets_depth_all_the_same(engine, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert cache_folder() is None
    assert np.isfinite(engine()).all()


def homeless():
    raise RuntimeError("Could not determine home directory.")


def test_openvino_does_not_report_what_is_compiled(weights):
    code = (
        "import sys\nfrom pathlib import Path\nfrom ssmde_ros.networks import load_depth_net\n"
        "from ssmde_ros.runtime import EngineConfig, create_engine\n"
        f"create_engine(load_depth_net(Path({str(weights)!r}))[0], (64, 96), EngineConfig('openvino', 'cpu'))\n"
        "print([name for name, module in sys.modules.items() if name.startswith('openvino_telemetry') and module])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_the_cache_has_runs_without_torch(weights, tmp_path):
    """It takes longer to import than all the rest, and would hold up the frames that flow."""
    net, info = load_depth_net(weights)
    other, wrong = tmp_path / "other.safetensors", tmp_path / "wrong.safetensors"
    with torch.no_grad():
        net.decoder.heads[0].bias += 0.1
    save_depth_net(net, other, {})
    with safe_open(weights, framework="pt") as file:
        save_file({"spy": torch.zeros(1)}, wrong, file.metadata())
    precompile(info, [SIZE], CONFIG, threading.Event())
    code = f"""
import sys
from pathlib import Path
import numpy as np
from ssmde_ros.networks import WeightsError, check_depth_net
from ssmde_ros.networks.identity import read_depth_net
from ssmde_ros.runtime import DepthEstimator, EngineConfig, EstimatorConfig
height, width = {SIZE}
config = EstimatorConfig(EngineConfig("openvino", "cpu"), input_size=(width, height))
depth = DepthEstimator(Path({str(weights)!r}), config).estimate(np.zeros((height, width, 3), np.uint8)).depth
assert np.isfinite(depth).all()
print(check_depth_net(Path({str(other)!r})), "torch" in sys.modules)
try:
    check_depth_net(Path({str(wrong)!r}))
except WeightsError as error:
    print(error, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == f"{load_depth_net(other)[1]} False"
    assert "lacks" in second and second.endswith("False")


def test_precompile_says_what_is_wrong_with_weights_that_their_network_does_not_take(weights, tmp_path):
    wrong = tmp_path / "wrong.safetensors"
    with safe_open(weights, framework="pt") as file:
        save_file({"spy": torch.zeros(1)}, wrong, file.metadata())
    info = read_depth_net(wrong)[0]
    with pytest.raises(WeightsError, match="wrong.safetensors lacks"):
        precompile(info, [SIZE], CONFIG, threading.Event())


def test_weights_of_the_wrong_shape_are_refused_by_name_whatever_was_measured_before(weights, tmp_path):
    net, info = load_depth_net(weights)
    create_engine(net, SIZE, EngineConfig("auto", "cpu"), info.digest)
    wrong = tmp_path / "wrong.safetensors"
    with safe_open(weights, framework="pt") as file:
        save_file({"spy": torch.zeros(1)}, wrong, file.metadata())
    with pytest.raises(WeightsError, match="lacks"):
        DepthEstimator(wrong, EstimatorConfig(EngineConfig("auto", "cpu"), input_size=(SIZE[1], SIZE[0])))
