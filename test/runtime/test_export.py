import importlib.util
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from ssmde_ros.cli import main
from ssmde_ros.commands import export as command
from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import WeightsError, load_depth_net
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime import DepthEstimator, EngineConfig, EstimatorConfig
from ssmde_ros.runtime.export import ExportConfig, export, relative_difference
from ssmde_ros.runtime.exported import plan_header, read_exported, split_plan
from ssmde_ros.runtime.models import check_model

pytest.importorskip("onnxscript", reason="export to ONNX is optional, and its packages are not installed")
pytest.importorskip("openvino", reason="OpenVINO is optional and not installed")

SIZE = (96, 128)
FRAMES = [
    cv2.GaussianBlur(np.random.default_rng(n).integers(0, 256, (*SIZE, 3), dtype=np.uint8), (0, 0), 3) for n in range(4)
]
HERE = [("onnx", "fp32"), ("onnx", "fp16"), ("openvino", "fp32"), ("openvino", "fp16"), ("torchscript", "fp32")]


@pytest.fixture(scope="module")
def exports(weights, tmp_path_factory):
    """Exports of the small network, each written once."""
    net, info = load_depth_net(weights)
    root, known = tmp_path_factory.mktemp("exports"), {}

    def find(form="onnx", precision="fp32", size=SIZE):
        key = form, precision, size
        if key not in known:
            config = ExportConfig(*key)
            folder = root / "-".join(map(str, key))
            known[key] = export(net, info, config, folder / f"student{config.suffix}", FRAMES).info.path
        return known[key]

    return find


@pytest.fixture(scope="module")
def net(weights):
    return load_depth_net(weights)[0]


@pytest.fixture
def copied(exports, tmp_path):
    """Of an export, a copy to harm."""

    def copy(form):
        return Path(shutil.copytree(exports(form).parent, tmp_path / form)) / exports(form).name

    return copy


def size_of(path):
    return sum(p.stat().st_size for p in path.parent.iterdir())


def engine_of(path, name="auto", size=SIZE):
    return DepthEstimator(path, EstimatorConfig(EngineConfig(name, "cpu"), input_size=size[::-1])).engine


@pytest.mark.parametrize(
    ("form", "precision", "size"),
    [*((*each, SIZE) for each in HERE), *((form, "fp32", None) for form in ("onnx", "openvino", "torchscript"))],
)
def test_exported_depth_is_that_of_torch(exports, net, form, precision, size):
    engine = engine_of(exports(form, precision, size))
    assert engine.precision == precision
    largest, mean = relative_difference(net, engine, FRAMES)
    assert mean <= largest <= command.TOLERANCES[precision]
    if precision == "fp16":
        assert size_of(exports(form, "fp16", size)) < 0.6 * size_of(exports(form, "fp32", size))


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


@pytest.mark.parametrize("form", ["onnx", "openvino", "torchscript"])
def test_an_open_size_follows_the_camera_and_a_fixed_one_does_not(weights, exports, form):
    image = np.ascontiguousarray(np.tile(FRAMES[0], (1, 3, 1)))
    exact = DepthEstimator(weights, EstimatorConfig(EngineConfig("torch", "cpu"))).estimate(image).depth.copy()
    free = DepthEstimator(exports(form, size=None)).estimate(image)
    np.testing.assert_allclose(free.depth, exact, rtol=1e-3)
    fixed = DepthEstimator(exports(form), EstimatorConfig(full_size=False))
    assert fixed.estimate(image).depth.shape == SIZE
    with pytest.raises(SsmdeError, match="takes 128x96 only"):
        DepthEstimator(exports(form), EstimatorConfig(input_size=(64, 64)))


@pytest.mark.parametrize("form", ["onnx", "openvino", "torchscript"])
def test_a_file_says_what_it_holds(weights, exports, net, form):
    path = exports(form)
    exported, info = read_exported(path), load_depth_net(weights)[1]
    assert (exported.form, exported.precision, exported.size) == (form, "fp32", SIZE)
    assert (exported.info.digest, exported.info.provenance) == (info.digest, info.provenance)
    assert exported.info.config.recorded() == net.config.recorded() | {"input_width": 128, "input_height": 96}
    assert check_model(path) == exported.info
    assert form.startswith(exported.made_with.split()[0]) or exported.made_with.startswith("torch ")


@pytest.mark.parametrize("form", ["onnx", "openvino", "torchscript"])
@pytest.mark.parametrize("kept", [0, 100, 0.5])
def test_a_torn_file_is_refused_in_one_line(copied, form, kept):
    path = copied(form)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept != 0.5 else len(content) * kept)])
    with pytest.raises(SsmdeError, match="student") as error:
        DepthEstimator(path)
    assert "\n" not in str(error.value)


def test_weights_beside_an_openvino_file_must_be_there(copied):
    path = copied("openvino")
    weights_file = path.with_suffix(".bin")
    content = weights_file.read_bytes()
    weights_file.write_bytes(content[: len(content) // 2])
    with pytest.raises(SsmdeError, match="whole openvino file"):
        DepthEstimator(path)
    weights_file.unlink()
    with pytest.raises(WeightsError, match=r"student.bin, which belongs to it, is missing"):
        DepthEstimator(path)


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


def test_engines_of_exported_files_send_weights_to_export(weights):
    with pytest.raises(SsmdeError, match="ssmde export --format onnx"):
        engine_of(weights, "onnxruntime")


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


def test_a_plan_carries_its_metadata_and_is_refused_where_there_is_no_gpu(weights, tmp_path):
    header = plan_header("größer")
    assert split_plan(header + b"engine") == ("größer", b"engine")
    for torn in (b"", b"something else", header, header[:15]):
        with pytest.raises(ValueError, match="begin|cut off"):
            split_plan(torn)
    if not torch.cuda.is_available():
        with pytest.raises(SsmdeError, match="tensorrt|GPU"):
            export(*load_depth_net(weights), ExportConfig("tensorrt", "fp16", SIZE), tmp_path / "student.plan")


@pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("tensorrt") is None, reason="needs a GPU and TensorRT"
)
def test_tensorrt_on_a_gpu_is_close(exports, net):
    engine = DepthEstimator(exports("tensorrt", "fp16")).engine
    assert (engine.name, engine.precision) == ("tensorrt", "fp16")
    assert relative_difference(net, engine, FRAMES)[0] < 2e-2


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, frame in enumerate(FRAMES):
        cv2.imwrite(str(folder / f"{number}.png"), frame)
    return folder


def test_the_command_says_how_close_it_is(weights, tmp_path, pictures, capsys):
    out = tmp_path / "new" / "student.onnx"
    assert main(["export", str(weights), "--format", "onnx", "-o", str(out), "--frames", str(pictures)]) == 0
    said = capsys.readouterr().out
    assert "student.onnx" in said and "fp32" in said and "difference to torch" in said and "4 frames" in said
    assert [p.name for p in out.parent.iterdir()] == ["student.onnx"]
    # Of the shape that the camera has.
    assert f"{read_exported(out).size[1]}x{read_exported(out).size[0]}" in said


def test_a_file_that_differs_is_not_kept_and_the_old_one_stays(weights, tmp_path, pictures, capsys, monkeypatch):
    out = tmp_path / "student.xml"
    arguments = ["export", str(weights), "--format", "openvino", "-o", str(out), "--frames", str(pictures)]
    assert main(arguments) == 0
    before = out.read_bytes()
    monkeypatch.setitem(command.TOLERANCES, "fp32", 0.0)
    assert main([*arguments, "--dynamic"]) == 1
    assert "nothing is written" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"student.xml", "student.bin", "pictures"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--precision", "int8"], "needs --frames"),
        (["--size", "100x64"], "multiples of 32"),
        (["-o", "student.xml"], "onnx files end in .onnx"),
        (["--frames", "/nowhere"], "/nowhere"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(weights, tmp_path, monkeypatch, capsys, changed, said):
    monkeypatch.chdir(tmp_path)
    drawn = SimpleNamespace(image=torch.zeros(3, 64, 96))
    monkeypatch.setattr(command, "sample_frames", lambda: iter([drawn]))
    assert main(["export", str(weights), "--format", "onnx", "-o", "student.onnx", *changed]) == 1
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("form", "precision"), HERE)
def test_the_shipped_student_survives_export(tmp_path, form, precision):
    net, info = load_depth_net(default_weights())
    config = ExportConfig(form, precision, SIZE)
    made = export(net, info, config, tmp_path / f"student{config.suffix}", FRAMES)
    largest, _ = relative_difference(net, engine_of(made.info.path), FRAMES)
    assert largest <= command.TOLERANCES[precision]
