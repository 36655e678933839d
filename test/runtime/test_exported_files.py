"""Files that were exported: what they say, what runs them, and when they are refused."""

import json
import sys

import numpy as np
import pytest
import torch

from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import WeightsError, load_depth_net
from ssmde_ros.runtime import DepthEstimator, EngineConfig, EstimatorConfig
from ssmde_ros.runtime.export import ExportConfig, export, relative_difference
from ssmde_ros.runtime.exported import plan_header, read_exported, split_plan
from ssmde_ros.runtime.models import check_model, open_model
from test.runtime.exporting import FORMS, FRAMES, SIZE, engine_of

pytest.importorskip("onnxscript", reason="export to ONNX is optional, and its packages are not installed")
pytest.importorskip("openvino", reason="OpenVINO is optional and not installed")


@pytest.mark.parametrize("form", FORMS)
def test_an_open_size_follows_the_camera_and_a_fixed_one_does_not(weights, exports, form):
    image = np.ascontiguousarray(np.tile(FRAMES[0], (1, 3, 1)))
    exact = DepthEstimator(weights, EstimatorConfig(EngineConfig("torch", "cpu"))).estimate(image).depth.copy()
    free = DepthEstimator(exports(form, size=None)).estimate(image)
    np.testing.assert_allclose(free.depth, exact, rtol=1e-3)
    fixed = DepthEstimator(exports(form), EstimatorConfig(full_size=False))
    assert fixed.estimate(image).depth.shape == SIZE
    with pytest.raises(SsmdeError, match="takes 128x96 only"):
        DepthEstimator(exports(form), EstimatorConfig(input_size=(64, 64)))


@pytest.mark.parametrize("form", FORMS)
def test_a_file_says_what_it_holds(weights, exports, net, form):
    path = exports(form)
    exported, info = read_exported(path), load_depth_net(weights)[1]
    assert (exported.form, exported.precision, exported.size) == (form, "fp32", SIZE)
    assert (exported.info.digest, exported.info.provenance) == (info.digest, info.provenance)
    assert exported.info.config.recorded() == net.config.recorded() | {"input_width": 128, "input_height": 96}
    assert check_model(path) == exported.info
    assert form.startswith(exported.made_with.split()[0]) or exported.made_with.startswith("torch ")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kept", [0, 100, 0.5])
def test_a_torn_file_is_refused_in_one_line(copied, form, kept):
    path = copied(form)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept != 0.5 else len(content) * kept)])
    with pytest.raises(SsmdeError, match="student") as error:
        DepthEstimator(path)
    assert "\n" not in str(error.value)


def test_weights_beside_an_openvino_file_must_be_its_own(copied):
    path = copied("openvino")
    beside = path.with_suffix(".bin")
    content = bytearray(beside.read_bytes())
    content[5000] ^= 1
    for harmed in (bytes(content), bytes(content[:1000]), b""):
        beside.write_bytes(harmed)
        with pytest.raises(WeightsError, match=r"student\.bin does not belong to student\.xml"):
            check_model(path)
    beside.unlink()
    with pytest.raises(WeightsError, match=r"No such file or directory: .*student\.bin"):
        check_model(path)


def test_what_runs_a_file_need_not_write_any(exports, net, monkeypatch):
    path = exports()
    for name in ("onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None)
    assert relative_difference(net, engine_of(path, "onnxruntime"), FRAMES)[0] < 1e-3


def test_a_model_does_not_change_with_its_file(copied, net):
    path = copied("onnx")
    model = open_model(path)
    path.write_bytes(b"something else")
    engine = model.engine(SIZE, EngineConfig("auto", "cpu"))
    assert relative_difference(net, engine, FRAMES)[0] < 1e-3


def test_files_of_others_and_foreign_metadata_are_refused(copied):
    import onnx

    path = copied("onnx")
    model = onnx.load(path)
    (entry,) = [e for e in model.metadata_props if e.key == "ssmde_ros"]
    values = json.loads(entry.value)
    for changed, said in (
        (None, "was not written by `ssmde export`"),
        ({"format": "other"}, "unusable metadata: format 'other'"),
        ({"precision": "fp4"}, "unusable metadata: precision 'fp4'"),
        ({"size": [100, 100]}, "unusable metadata: input size"),
    ):
        if changed is None:
            del model.metadata_props[:]
        else:
            onnx.helper.set_model_props(model, {"ssmde_ros": json.dumps(values | changed)})
        onnx.save(model, path)
        with pytest.raises(WeightsError, match=said):
            read_exported(path)


@pytest.mark.parametrize(
    ("form", "engine", "said"),
    [
        ("onnx", "torch", "does not run .onnx files"),
        ("openvino", "onnxruntime", "does not run .xml files"),
        ("torchscript", "openvino", "does not run .ts files"),
    ],
)
def test_an_engine_that_cannot_run_the_file_is_named(exports, form, engine, said):
    with pytest.raises(SsmdeError, match=said):
        engine_of(exports(form), engine)


def test_a_gpu_is_not_quietly_a_processor(exports):
    with pytest.raises(SsmdeError, match="runs .*student.onnx on the CPU only, not on cuda:7"):
        DepthEstimator(exports(), EstimatorConfig(EngineConfig("auto", "cuda:7")))


def test_the_camera_of_another_shape_is_told_once(exports, caplog):
    estimator = DepthEstimator(exports())
    for shape in ((96, 128, 3), (96, 384, 3), (96, 384, 3)):
        estimator.estimate(np.zeros(shape, np.uint8))
    (said,) = [r.getMessage() for r in caplog.records if "squeezed" in r.getMessage()]
    assert "takes 128x96" in said and "--size" in said


def test_a_plan_carries_its_metadata_and_is_refused_where_there_is_no_gpu(weights, tmp_path):
    header = plan_header("größer")
    assert split_plan(header + b"engine") == ("größer", b"engine")
    for torn in (b"", b"something else", header, header[:15]):
        with pytest.raises(ValueError, match="begin|cut off"):
            split_plan(torn)
    if not torch.cuda.is_available():
        with pytest.raises(SsmdeError, match="tensorrt|GPU"):
            export(*load_depth_net(weights), ExportConfig("tensorrt", "fp16", SIZE), tmp_path / "student.plan")
