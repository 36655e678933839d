"""What colcon installs, what the files promise, and the launch file where launch_ros exists."""

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from ssmde_ros import __version__
from ssmde_ros.errors import SsmdeError
from ssmde_ros.resources import default_weights, find_resource
from test.conftest import ROOT


def test_package_xml_names_the_dependencies_and_a_valid_maintainer():
    package = ET.parse(ROOT / "package.xml").getroot()
    assert package.get("format") == "3"
    assert package.findtext("version") == __version__
    depends = {element.text for element in package.iter("exec_depend")}
    assert depends >= {
        "rclpy", "sensor_msgs", "std_msgs", "std_srvs", "diagnostic_msgs", "cv_bridge", "sensor_msgs_py",
        "launch", "launch_ros", "ament_index_python", "python3-numpy", "python3-opencv",
    }  # fmt: skip
    assert "python3-pytest" in {element.text for element in package.iter("test_depend")}
    assert re.fullmatch(r"[^@\s]+@[^@\s]+\.\w+", package.find("maintainer").get("email"))
    assert package.findtext("export/build_type") == "ament_python"


def test_shipped_files_are_found_and_small_enough():
    assert default_weights().stat().st_size < 20e6
    assert find_resource("config/depth.yaml").is_file()
    with pytest.raises(SsmdeError, match="not installed"):
        find_resource("config/none.yaml")


def test_the_model_card_tells_data_and_command():
    card = (ROOT / "models" / "student-tiny.md").read_text()
    for word in (
        "synthetic",
        "python -m ssmde_ros.training.supervised",
        "kitti_traffic",
        "kitchen",
        "ImageNet",
        "Apache-2.0",
    ):
        assert word in card


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("colcon", path=str(Path(sys.executable).parent)) is None, reason="colcon is not installed"
)
def test_colcon_build_installs_a_package_that_ament_index_finds(tmp_path):
    source = tmp_path / "src" / "ssmde_ros"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "__pycache__", "*.egg-info", "build", "install", "log", "runs", ".*_cache"
    )
    shutil.copytree(ROOT, source, ignore=ignored)
    colcon = str(Path(sys.executable).parent / "colcon")
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run([colcon, "build"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    prefix = tmp_path / "install" / "ssmde_ros"
    share = prefix / "share" / "ssmde_ros"
    assert (share / "hook" / "ament_prefix_path.sh").is_file(), "an invalid package.xml only warns, and leaves this out"
    for name in ("package.xml", "launch/depth.launch.py", "config/depth.yaml", "config/fastdds.xml", "rviz/depth.rviz",
                 "models/student-tiny.safetensors"):  # fmt: skip
        assert (share / name).is_file(), name
    assert (prefix / "lib" / "ssmde_ros" / "depth_node").is_file()
    assert (prefix / "share/ament_index/resource_index/packages/ssmde_ros").is_file()
    # In a new process that sees the installed copy only.
    (site,) = (prefix / "lib").glob("python3*/site-packages")
    code = (
        "from ssmde_ros.resources import default_weights; print(default_weights())\n"
        "from ssmde_ros.geometry import PinholeCamera\nfrom ssmde_ros.networks import DepthNetConfig\n"  # by their .pyi
        "try:\n    from ament_index_python.packages import get_package_share_directory as share\n"
        "    print(share('ssmde_ros'))\nexcept ModuleNotFoundError:\n    print('no ament_index_python')\n"
    )
    env = os.environ | {"PYTHONPATH": str(site), "AMENT_PREFIX_PATH": str(prefix)}
    seen = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    weights, index = seen.stdout.split("\n")[:2]
    assert weights == str(share / "models" / "student-tiny.safetensors")
    assert index in (str(share), "no ament_index_python")


def test_the_launch_file_describes_its_arguments():
    pytest.importorskip("launch_ros", reason="launch_ros is not installed: it is not on PyPI, only on a ROS install")
    pytest.importorskip("launch", reason="launch is not installed: it is not on PyPI, only on a ROS install")
    from ament_index_python.packages import PackageNotFoundError
    from launch.actions import DeclareLaunchArgument
    from launch.launch_description_sources import get_launch_description_from_python_launch_file

    try:
        description = get_launch_description_from_python_launch_file(str(ROOT / "launch" / "depth.launch.py"))
    except (PackageNotFoundError, OSError):
        pytest.skip("ssmde_ros is not in the ament index: colcon build it and source install/setup.bash")
    names = {entity.name for entity in description.entities if isinstance(entity, DeclareLaunchArgument)}
    assert names >= {"params_file", "image", "camera_info", "image_transport", "namespace", "rviz", "weights", "device",
                     "cameras", "threads"}  # fmt: skip
