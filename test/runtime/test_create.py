import logging
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import DepthNet, load_depth_net
from ssmde_ros.runtime import EngineConfig, create, create_engine, engines, makers, onnx_export
from ssmde_ros.runtime.engine_cache import cache_folder, write_engine
from ssmde_ros.runtime.openvino_engine import CompileConfig, compiled_net
from ssmde_ros.runtime.precompile import precompile

SIZE = (64, 96)
IMAGE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
ON_CPU = EngineConfig(device="cpu", precision="fp32")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def two_engines():
    pytest.importorskip("openvino", reason="OpenVINO is optional; without it torch is alone and there is no choice")


def warnings_in(caplog):
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def broken_engine():
    raise RuntimeError("some library's story\nno luck")


@pytest.mark.parametrize("winner", ["torch", "openvino"])
def test_auto_takes_what_was_measured_to_be_the_fastest_says_so_and_remembers(
    weights, winner, monkeypatch, caplog, two_engines
):
    net, info = load_depth_net(weights)
    measured = []

    def stopwatch(engines, size):
        measured.append(size)
        return {name: 0.003 if name == winner else 0.0205 for name in engines}

    monkeypatch.setattr(create, "_measured", stopwatch)
    with caplog.at_level(logging.INFO):
        assert create_engine(net, SIZE, ON_CPU, info.digest).name == winner
    (line,) = [record.message for record in caplog.records if "taking" in record.message]
    assert line.startswith("engines at 96x64 on cpu: ") and line.endswith(f": taking {winner}")
    assert f"{winner} fp32 3.0 ms" in line and " fp32 20.5 ms" in line
    # Other weights of the same shape run as fast.
    assert create_engine(net, SIZE, ON_CPU, "other weights").name == winner
    assert measured == [SIZE]
    create_engine(net, (32, 64), ON_CPU, info.digest)
    assert measured == [SIZE, (32, 64)]


def test_engines_take_turns_until_each_has_been_measured():
    turns = []

    class Counted:
        def __init__(self, name):
            self.name = name

        def infer(self, image):
            turns.append(self.name)
            return image

    times = create._measured({"torch": Counted("torch"), "openvino": Counted("openvino")}, SIZE)
    assert turns[:4] == ["torch", "openvino", "torch", "openvino"]
    assert set(times) == {"torch", "openvino"} and min(times.values()) > 0


def test_an_engine_that_fails_is_left_out_with_a_warning(weights, monkeypatch, caplog, two_engines):
    net, info = load_depth_net(weights)
    with monkeypatch.context() as patch:
        patch.setattr(makers, "OpenVinoEngine", lambda *_: broken_engine())
        assert create_engine(net, SIZE, ON_CPU, info.digest).name == "torch"
        (line,) = warnings_in(caplog)
        assert line.startswith("engine openvino is left out: engine 'openvino' cannot run this network here (no luck)")
    # Nothing was remembered of a measurement that was not whole: now it is OpenVINO's turn.
    monkeypatch.setattr(create, "_measured", lambda engines, size: {name: -len(name) for name in engines})
    assert create_engine(net, SIZE, ON_CPU, info.digest).name == "openvino"


def test_a_remembered_engine_that_fails_gives_way_to_another(weights, monkeypatch, caplog, two_engines):
    net, info = load_depth_net(weights)
    monkeypatch.setattr(create, "_measured", lambda engines, size: {name: -len(name) for name in engines})
    assert create_engine(net, SIZE, ON_CPU, info.digest).name == "openvino"
    monkeypatch.setattr(makers, "OpenVinoEngine", lambda *_: broken_engine())
    assert create_engine(net, SIZE, ON_CPU, info.digest).name == "torch"
    assert "measuring the others" in warnings_in(caplog)[0]


@pytest.mark.parametrize("kept", [b"steam", b"\xff\xfe", b""])
def test_a_choice_that_names_no_engine_is_made_anew(weights, kept, monkeypatch, two_engines):
    net, info = load_depth_net(weights)
    measured = []

    def stopwatch(engines, size):
        measured.append(size)
        return {name: len(name) for name in engines}

    monkeypatch.setattr(create, "_measured", stopwatch)
    create_engine(net, SIZE, ON_CPU, info.digest)
    (path,) = cache_folder().glob("choice*")
    write_engine(path, kept)
    assert create_engine(net, SIZE, ON_CPU, info.digest).name == "torch"
    assert len(measured) == 2


def test_what_auto_may_take_is_compiled_before_it_is_needed(weights, two_engines):
    _, info = load_depth_net(weights)
    assert create.to_compile(info.config, SIZE, ON_CPU, info.digest) == ["openvino"]
    precompile(info, [SIZE], ON_CPU, threading.Event())
    assert create.to_compile(info.config, SIZE, ON_CPU, info.digest) == []
    assert create.to_compile(info.config, SIZE, EngineConfig("torch", "cpu"), info.digest) == []


def test_onnxruntime_runs_weights_and_keeps_what_it_converted(weights, monkeypatch):
    for package in ("onnxruntime", "onnx", "onnxscript"):
        pytest.importorskip(package, reason=f"{package} is optional and not installed")
    net, info = load_depth_net(weights)
    config = EngineConfig("onnxruntime", "cpu")
    with torch.inference_mode():
        exact = net.depth(torch.from_numpy(IMAGE).permute(2, 0, 1)[None].float() / 255)[0, 0].numpy()
    engine = create_engine(net, SIZE, config, info.digest)
    assert (engine.name, engine.device, engine.precision) == ("onnxruntime", "cpu", "fp32")
    np.testing.assert_allclose(engine.infer(IMAGE), exact, rtol=1e-3)
    monkeypatch.setattr(onnx_export, "onnx_model", lambda *_: pytest.fail("converted again"))
    np.testing.assert_allclose(create_engine(net, SIZE, config, info.digest).infer(IMAGE), exact, rtol=1e-3)


@pytest.mark.parametrize("wrong", [2.0, float("nan")])
def test_an_engine_with_another_depth_is_left_out_however_fast(weights, wrong, monkeypatch, caplog, two_engines):
    class Wrong(makers.OpenVinoEngine):
        def infer(self, image):
            return super().infer(image) * np.float32(wrong)

    net, info = load_depth_net(weights)
    monkeypatch.setattr(makers, "OpenVinoEngine", Wrong)
    assert create_engine(net, SIZE, ON_CPU, info.digest).name == "torch"
    (line,) = warnings_in(caplog)
    assert "engine openvino is left out: its depth differs from torch's" in line


def test_what_cannot_run_says_why(weights, monkeypatch):
    net, _ = load_depth_net(weights)
    order = EngineConfig("tensorrt", "cpu")
    for installed, said in ((False, "not installed: pip install tensorrt .*, or take engine torch"),
                            (True, "runs on NVIDIA GPUs only, not on cpu")):  # fmt: skip
        changed = replace(makers.MAKERS["tensorrt"], installed=lambda there=installed: there)
        monkeypatch.setitem(makers.MAKERS, "tensorrt", changed)
        with pytest.raises(SsmdeError, match=said):
            create_engine(net, SIZE, order)


def test_without_openvino_onnxruntime_is_a_candidate(weights, monkeypatch):
    for package in ("onnxruntime", "onnx", "onnxscript"):
        pytest.importorskip(package, reason=f"{package} is optional and not installed")
    net, info = load_depth_net(weights)
    monkeypatch.setattr(makers, "has_openvino", lambda: False)
    monkeypatch.setitem(makers.MAKERS, "openvino", replace(makers.MAKERS["openvino"], installed=lambda: False))
    monkeypatch.setattr(create, "_measured", lambda engines, size: {name: -len(name) for name in engines})
    assert create_engine(net, SIZE, ON_CPU, info.digest).name == "onnxruntime"


def test_a_library_that_does_not_import_is_no_obstacle_to_new_weights(weights, monkeypatch):
    def broken(_):
        raise ImportError("libsomething.so.1: cannot open shared object file")

    _, info = load_depth_net(weights)
    monkeypatch.setitem(makers.MAKERS, "openvino", replace(makers.MAKERS["openvino"], file=broken))
    assert create.to_compile(info.config, SIZE, ON_CPU, info.digest) == []


def test_engines_of_the_cpu_run_there_also_beside_a_gpu(monkeypatch):
    monkeypatch.setattr(engines, "_has_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert create._device(EngineConfig("openvino")) == create._device(EngineConfig("onnxruntime")) == "cpu"
    assert create._device(EngineConfig("torch")) == create._device(EngineConfig()) == "cuda"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU on this machine")
@pytest.mark.parametrize(("precision", "tolerance"), [("auto", 2e-2), ("fp32", 1e-3)])
def test_a_cuda_graph_gives_the_depth_of_each_image(weights, precision, tolerance):
    net, _ = load_depth_net(weights)
    engine = create_engine(net, SIZE, EngineConfig("torch", "cuda", precision=precision))
    exact = create_engine(net, SIZE, EngineConfig("torch", "cpu"))
    for image in (IMAGE, IMAGE[::-1].copy(), np.zeros_like(IMAGE)):
        np.testing.assert_allclose(engine.infer(image), exact.infer(image), rtol=tolerance)


@pytest.mark.parametrize("driver", [True, False])
@pytest.mark.parametrize("gpu", [True, False])
def test_auto_is_the_gpu_that_torch_sees_and_a_machine_without_driver_is_not_asked(driver, gpu, monkeypatch):
    asked = []
    monkeypatch.setattr(engines, "_has_driver", lambda: driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: asked.append(1) or gpu)
    assert engines.resolve_device("auto") == ("cuda" if driver and gpu else "cpu")
    assert bool(asked) == driver
    assert engines.resolve_device("cpu") == "cpu"


def test_openvino_ties_no_thread_to_a_core():
    """Two nodes with a thread each were tied to the same one, and half as fast."""
    pytest.importorskip("openvino", reason="OpenVINO is optional")
    compiled = compiled_net(DepthNet, (64, 64), CompileConfig(threads=1))
    assert compiled.get_property("ENABLE_CPU_PINNING") is False
