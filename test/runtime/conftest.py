"""Exports of the small network with random weights."""

import shutil
from pathlib import Path

import pytest

from ssmde_ros.networks import load_depth_net
from ssmde_ros.runtime.export import ExportConfig, export
from test.runtime.exporting import FRAMES, SIZE


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def net(weights):
    return load_depth_net(weights)[0]


@pytest.fixture
def copied(exports, tmp_path):
    """Of an export, a copy to harm."""

    def copy(form):
        return Path(shutil.copytree(exports(form).parent, tmp_path / form)) / exports(form).name

    return copy
