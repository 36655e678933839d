"""`ssmde export`."""

from types import SimpleNamespace

import cv2
import pytest
import torch

from ssmde_ros.cli import main
from ssmde_ros.commands import export as command
from ssmde_ros.runtime.exported import read_exported
from test.runtime.exporting import FRAMES

pytest.importorskip("onnxscript", reason="export to ONNX is optional, and its packages are not installed")
pytest.importorskip("openvino", reason="OpenVINO is optional and not installed")


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


def test_weights_of_something_else_are_not_overwritten(weights, tmp_path, capsys):
    (tmp_path / "encoder.bin").write_bytes(b"precious")
    assert main(["export", str(weights), "--format", "openvino", "-o", str(tmp_path / "encoder.xml")]) == 1
    assert "encoder.bin is there already" in capsys.readouterr().err
    assert (tmp_path / "encoder.bin").read_bytes() == b"precious"


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
        (["--size", "0x64"], "multiples of 32"),
        (["--format", "tensorrt", "--dynamic"], "built for one size"),
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
