"""Fine-tuning on damaged bags from the command line: what is readable teaches, what is lost is counted, or one line says why not."""

import json

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from ssmde_ros.cli import main
from ssmde_ros.training.generations import Generations
from test.data.rendered_bag import rendered_bag
from test.data.test_bags import image, make, write
from test.data.test_salvage import storage_file
from test.training.fine_tuning import SMALL


def command(bag, out, weights):
    train = {**SMALL["train"], "run": {**SMALL["train"]["run"], "steps": 1}}
    words = ["train", "--bag", str(bag), "--out", str(out), "--start", str(weights)]
    for key, value in {**SMALL, "train": train}.items():
        words += ["--set", f"{key}={json.dumps(value)}"]
    return words


@pytest.mark.slow
def test_a_bag_with_garbage_in_it_and_no_metadata_teaches_with_the_rest(tmp_path, weights, capsys):
    torn = rendered_bag(tmp_path / "torn", seed=7, storage=StoragePlugin.SQLITE3)
    (torn / "metadata.yaml").unlink()
    content = bytearray(storage_file(torn).read_bytes())
    start = int(0.2 * len(content))  # the images come first
    content[start : start + 20_000] = np.random.default_rng(1).bytes(20_000)
    storage_file(torn).write_bytes(content)
    code = main(command(torn, tmp_path / "out", weights))
    assert code in (0, 3), capsys.readouterr().err
    metrics = json.loads((Generations(tmp_path / "out").folder(1) / "metrics.json").read_text())
    assert metrics["lost_messages"] > 0
    report = (Generations(tmp_path / "out").folder(1) / "report.md").read_text()
    assert "messages lost" in report


def rubbish(path):
    write(path, {"/cam/image": [image(10**9)] * 3})
    storage_file(path).write_bytes(b"x" * 5000)


def hollow(path):
    write(path, {"/cam/image": [image(10**9)]})
    storage_file(path).write_bytes(b"")


def wordy(path):
    write(path, {"/camera/image": [make("std_msgs/msg/String", data="no picture")] * 3})


def sizeless(path):
    pictures = [image(10**9 + i * 10**8) for i in range(6)]
    for picture in pictures:
        picture.height, picture.data = 0, np.zeros(0, np.uint8)
    write(path, {"/cam/image": pictures})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (rubbish, "no message in it can be salvaged"),
        (hollow, "no message in it can be salvaged"),
        (wordy, "has no image topic"),
        (sizeless, "gives no three readable frames in a row"),
        (lambda path: path.mkdir(), "holds neither a bag"),
    ],
    ids=["rubbish", "empty", "wrong type", "zero-length images", "folder of nothing"],
)
def test_a_bag_that_teaches_nothing_is_one_line_and_exit_code_1(tmp_path, weights, capsys, damage, said):
    damage(tmp_path / "bag")
    assert main(command(tmp_path / "bag", tmp_path / "out", weights)) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("ssmde: ")
    assert said in line
    assert not Generations(tmp_path / "out").all()
