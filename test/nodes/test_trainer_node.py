"""The trainer node over real DDS: it teaches, shows how it goes, pauses, stops, and tells the depth node."""

import json
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Float32
from std_srvs.srv import Trigger

from ssmde_ros.data.sources import open_source
from ssmde_ros.nodes.dotted import flattened, nested
from ssmde_ros.training.finetune import unfinished
from ssmde_ros.training.generations import Generations
from test.data.rendered_bag import rendered_bag
from test.nodes.harness import NodeProcess, Peer, camera_info

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
SMALL = {
    "width": 96, "height": 64, "held_out": 0.3, "replay_frames": 4, "nice": 5, "threads": 1,
    "recording.workers": 1, "key_frames.min_frames": 8, "train.run.batch_size": 2, "train.run.accelerator": "cpu",
    "train.run.checkpoint_every": 100, "odometry": "none",
}  # fmt: skip


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return rendered_bag(tmp_path_factory.mktemp("bags") / "room")


class Watcher(Peer):
    """Listens to a trainer."""

    def __init__(self, namespace):
        super().__init__(namespace, listen=())
        self.progress, self.pictures, self.states, self.losses = [], {}, [], []
        self.create_subscription(Float32, "trainer_node/progress", lambda m: self.progress.append(m.data), LATCHED)
        self.create_subscription(Float32, "trainer_node/loss/photometric", lambda m: self.losses.append(m.data), 10)
        for name in ("input", "depth"):
            self.create_subscription(
                Image, f"trainer_node/{name}", lambda m, n=name: self.pictures.update({n: m}), LATCHED
            )
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_training, 10)

    def _on_training(self, message):
        mine = self.get_namespace().rstrip("/") + "/trainer_node"
        self.states += [s for s in message.status if s.name.startswith(mine)]

    def state(self):
        return {p.key: p.value for p in self.states[-1].values}["state"] if self.states else ""

    def ask(self, name):
        return self.call(Trigger, f"trainer_node/{name}", Trigger.Request())


def trainer(namespace, bag, out, changes):
    values = {**SMALL, "bag": bag, "out": out, **changes}
    return NodeProcess(namespace, values, module="trainer_node")


@pytest.mark.slow
def test_it_teaches_shows_how_it_goes_pauses_and_stops_with_a_checkpoint(ros, bag, tmp_path):
    watcher = Watcher("/school")
    try:
        with trainer("/school", bag, tmp_path, {"train.run.steps": 5000}) as node:
            assert watcher.spin(lambda: {"input", "depth"} <= watcher.pictures.keys() and watcher.losses, timeout=120)
            assert watcher.pictures["depth"].encoding == "bgr8"
            assert (watcher.pictures["depth"].width, watcher.pictures["depth"].height) == (96, 64)
            assert watcher.spin(lambda: 0 < watcher.progress[-1] < 1)
            assert watcher.spin(lambda: "minutes left" in watcher.states[-1].message)
            assert watcher.ask("pause").success
            assert watcher.spin(lambda: watcher.state() == "paused")
            watcher.spin(lambda: False, timeout=2.0)
            still = watcher.progress[-1]
            watcher.spin(lambda: False, timeout=2.0)
            assert watcher.progress[-1] == still
            assert watcher.ask("resume").success
            assert watcher.spin(lambda: watcher.progress[-1] > still)
            assert watcher.ask("stop").success
            assert node.process.wait(60) == 0
            assert "stopped by the stop service at step" in node.text
        assert unfinished(tmp_path) is not None
    finally:
        watcher.close()


@pytest.mark.slow
def test_a_finished_fine_tune_ends_the_node_and_leaves_a_generation(ros, bag, tmp_path):
    with trainer("/class", bag, tmp_path, {"train.run.steps": 3}) as node:
        assert node.process.wait(150) == 0
        assert "generation 0001 is" in node.text
    (found,) = Generations(tmp_path).all()
    metrics = json.loads((Generations(tmp_path).folder(1) / "metrics.json").read_text())
    assert metrics["steps"] == 3
    assert found.parent


@pytest.mark.slow
def test_a_promotion_reaches_the_depth_node_that_runs_beside_and_costs_it_no_frame(ros, peer, tmp_path):
    """The depth node sees the recording at up to 10 Hz while the trainer learns from it."""
    bag = rendered_bag(tmp_path / "easy", seed=7)  # twelve steps take a fifth off the shipped student's error
    with open_source(bag) as source:
        images = [frame.image for frame in source.frames]
        lens = camera_info(160, 128, focal=128.0)
    changes = {"train.run.steps": 12, "deploy_to": "/live/depth_node"}
    with (
        NodeProcess("/live", {"engine": "torch", "device": "cpu", "threads": 1}) as node,
        trainer("/live", bag, tmp_path / "out", changes) as school,
    ):
        me = peer("/live")
        me.settled(image=images[0], info=lens)
        me.got["depth"].clear()
        sent, got = [], me.got["depth"]

        def next_frame():
            if len(got) == len(sent):  # a node that is still busy may drop frames, swap or no swap
                sent.append(me.send(image=images[len(sent) % len(images)], info=lens))

        def swapped():
            return any("student.safetensors" in p.value for s in me.diagnostics for p in s.values if p.key == "weights")

        assert me.spin(swapped, timeout=180, doing=next_frame), school.text + node.text
        after = len(sent) + 5
        assert me.spin(lambda: len(got) >= after, doing=next_frame), f"{len(sent)} sent, {len(got)} back"
        assert [m.header.stamp.sec for m in got] == sent, "every frame came back, in order"
        assert school.process.wait(60) == 0
        assert "loads the new generation" in school.text
        generations = Generations(tmp_path / "out")
        assert Path(me.get("weights")) == generations.weights(generations.all()[0]).resolve()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bag": "''"}, "parameter bag is empty"),
        ({"held_out": 0.9}, "held_out must lie in"),
        ({"colour": "red"}, "unknown key colour"),
        ({"bag": "/nowhere"}, "does not exist"),
    ],
)
def test_bad_parameters_end_it_with_one_line(ros, bag, tmp_path, changes, said):
    with trainer("/bad", bag, tmp_path, changes) as node:
        assert node.process.wait(60) == 1
        assert said in node.text
        assert "Traceback" not in node.text


def test_parameters_by_dotted_name_and_back():
    values = {"a": 1, "b": {"c": [1, 2], "d": {"e": "x"}}}
    assert flattened(values) == {"a": 1, "b.c": [1, 2], "b.d.e": "x"}
    assert nested(flattened(values)) == values
