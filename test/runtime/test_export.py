"""The network for other runtimes: the same depth, in every form."""

import importlib.util
from dataclasses import replace

import pytest
import torch

from ssmde_ros.commands import export as command
from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import DepthNet, DepthNetConfig, load_depth_net
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime import DepthEstimator
from ssmde_ros.runtime.export import ExportConfig, export, relative_difference
from ssmde_ros.runtime.onnx_export import onnx_model
from ssmde_ros.runtime.quantise import spread
from test.runtime.exporting import FORMS, FRAMES, HERE, SIZE, engine_of, size_of

pytest.importorskip("onnxscript", reason="export to ONNX is optional, and its packages are not installed")
pytest.importorskip("openvino", reason="OpenVINO is optional and not installed")


@pytest.mark.parametrize(("form", "precision"), HERE)
def test_exported_depth_is_that_of_torch(exports, net, form, precision):
    engine = engine_of(exports(form, precision))
    assert engine.precision == precision
    largest, mean = relative_difference(net, engine, FRAMES)
    assert mean <= largest <= command.TOLERANCES[precision]
    if precision == "fp16":
        assert size_of(exports(form, "fp16")) < 0.6 * size_of(exports(form, "fp32"))


@pytest.mark.slow
def test_int8_stays_near(exports, net):
    # By way of ONNX: what is measured for the one file is in the other.
    path = exports("openvino", "int8")
    _, mean = relative_difference(net, engine_of(path), FRAMES)
    assert 1e-5 < mean < command.TOLERANCES["int8"]
    assert size_of(path) < 0.45 * size_of(exports("openvino"))


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_both_engines_run_an_onnx_file(exports, net, name):
    engine = engine_of(exports(), name)
    assert engine.name == name
    assert relative_difference(net, engine, FRAMES)[0] < 1e-3


def test_bytes_become_floats_before_anything_else(net):
    (user,) = [node for node in onnx_model(net, SIZE).graph.node if "image" in node.input]
    assert user.op_type == "Cast", "TensorRT takes bytes nowhere else"


def lite_mono():
    net = DepthNet(DepthNetConfig("lite_mono_tiny", (16, 32, 64), padding="reflect", normalisation="grey"))
    return net.eval()


@pytest.mark.parametrize("build", [lite_mono, lambda: DepthNet(DepthNetConfig("resnet18", (8, 8, 8, 8, 8))).eval()])
@pytest.mark.parametrize("form", FORMS)
def test_other_architectures_are_exported_too(weights, tmp_path, build, form):
    torch.manual_seed(0)
    net, info = build(), load_depth_net(weights)[1]
    config = ExportConfig(form, size=SIZE)
    made = export(net, replace(info, config=net.config), config, tmp_path / f"student{config.suffix}")
    assert relative_difference(net, engine_of(made.info.path), FRAMES)[0] < 1e-3
    if form == "torchscript":
        graph = str(torch.jit.load(made.info.path).inlined_graph)
        assert 'value="cpu"' not in graph, "what was traced here runs on a GPU, too"


def test_frames_are_taken_from_all_over():
    assert list(spread(list(range(127)), 64)) == list(range(0, 127, 2))
    assert list(spread(list(range(64)), 64)) == list(range(64))
    assert list(spread([5], 4)) == [5]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("onnx", "fp32", (100, 64)), "multiples of 32"),
        (("torchscript", "int8", SIZE), "int8 is written as onnx or openvino"),
        (("tensorrt", "fp16", None), "built for one size"),
        (("keras", "fp32", SIZE), "unknown format"),
    ],
)
def test_what_cannot_be_exported_is_refused(values, said):
    with pytest.raises(ValueError, match=said):
        ExportConfig(*values)


def test_missing_packages_are_named(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SsmdeError, match="pip install onnx onnxscript onnxruntime"):
        export(*load_depth_net(weights), ExportConfig("onnx", "int8", SIZE), tmp_path / "student.onnx", FRAMES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("tensorrt") is None, reason="needs a GPU and TensorRT"
)
def test_tensorrt_on_a_gpu_is_close(exports, net):
    engine = DepthEstimator(exports("tensorrt", "fp16")).engine
    assert (engine.name, engine.precision) == ("tensorrt", "fp16")
    assert relative_difference(net, engine, FRAMES)[0] < 2e-2


@pytest.mark.slow
@pytest.mark.parametrize(("form", "precision"), HERE)
def test_the_shipped_student_survives_export(tmp_path, form, precision):
    net, info = load_depth_net(default_weights())
    config = ExportConfig(form, precision, SIZE)
    made = export(net, info, config, tmp_path / f"student{config.suffix}", FRAMES)
    largest, _ = relative_difference(net, engine_of(made.info.path), FRAMES)
    assert largest <= command.TOLERANCES[precision]
