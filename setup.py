from pathlib import Path

from setuptools import find_packages, setup

NAME = "ssmde_ros"
SHARE = f"share/{NAME}"


def files(folder: str, *patterns: str) -> tuple[str, list[str]]:
    return f"{SHARE}/{folder}", sorted(str(p) for pattern in patterns for p in Path(folder).glob(pattern))


setup(
    name=NAME,
    version="0.1.0",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["*/__init__.pyi"]},  # read at run time: what is imported when it is first asked for
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (SHARE, ["package.xml"]),
        files("launch", "*.launch.py"),
        files("config", "*.yaml", "*.xml"),
        files("models", "*.safetensors", "*.md"),
        files("rviz", "*.rviz"),
    ],
    install_requires=["setuptools"],
    extras_require={
        "teachers": ["transformers"],  # pseudo-depth from other networks than LeReS
        "export": ["onnx", "onnxscript", "onnxruntime"],  # to ONNX, and int8
    },
    python_requires=">=3.10",
    zip_safe=False,
    maintainer="ssmde_ros developers",
    maintainer_email="ssmde-ros@example.org",
    description="Dense depth from one camera (SS-MDE), live in ROS 2, fine-tuned on your own recordings.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "ssmde = ssmde_ros.cli:main",
            "depth_node = ssmde_ros.nodes.depth_node:main",
            "player_node = ssmde_ros.nodes.player_node:main",
            "recorder_node = ssmde_ros.nodes.recorder_node:main",
            "trainer_node = ssmde_ros.nodes.trainer_node:main",
        ],
    },
)
