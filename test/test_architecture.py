"""The rooms of the house know only what lies below them (docs/architecture.md)."""

import ast

import pytest

from test.conftest import ROOT

PACKAGE = ROOT / "ssmde_ros"
ROS = {
    "rclpy",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "diagnostic_msgs",
    "geometry_msgs",
    "rcl_interfaces",
    "cv_bridge",
    "launch",
}
BELOW = {
    "geometry": set(),
    "networks": {"geometry"},
    "data": {"geometry"},
    "evaluation": {"networks", "data", "geometry"},
    "training": {"evaluation", "networks", "data", "geometry"},
    "runtime": {"networks", "geometry"},
    "commands": {"runtime", "evaluation", "training", "networks", "data", "geometry"},
    "nodes": {"commands", "runtime", "evaluation", "training", "networks", "data", "geometry"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("room", BELOW)
def test_a_room_imports_only_what_lies_below_it(room):
    files = list((PACKAGE / room).rglob("*.py"))
    assert files
    for path in files:
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == "ssmde_ros" and len(parts) > 1 and (PACKAGE / parts[1]).is_dir():
                assert parts[1] == room or parts[1] in BELOW[room], f"{path} imports {name}"
            if room != "nodes":
                assert parts[0] not in ROS, f"{path} imports {name}"


def test_nothing_imports_torchvision_or_pickles():
    for path in PACKAGE.rglob("*.py"):
        names = {name.split(".")[0] for name in imports(path)}
        assert not names & {"torchvision", "timm", "pickle"}, path


def test_openvino_comes_without_its_telemetry():
    """Through `openvino_engine.openvino` only, which shuts it off before the first import."""
    for path in PACKAGE.rglob("*.py"):
        assert "openvino" not in {name.split(".")[0] for name in imports(path)}, path


def test_modules_stay_short():
    long = {str(p.relative_to(ROOT)): n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 300}
    assert long == {}


def test_the_core_works_without_ros(tmp_path):
    """Import every module outside nodes/ with rclpy made unfindable."""
    import subprocess
    import sys

    modules = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts)
        for p in PACKAGE.rglob("*.py")
        if "nodes" not in p.parts and p.stem != "__init__"
    ]
    (tmp_path / "rclpy.py").write_text("raise ImportError('no ROS here')")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n" + "\n".join(
        f"import {m}" for m in modules
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
