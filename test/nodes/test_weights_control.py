"""New weights prove themselves before they take over; the old ones come back on demand; promotions are followed."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from ssmde_ros.data.synthetic import SyntheticWorld, WorldConfig
from ssmde_ros.geometry import PinholeCamera
from ssmde_ros.networks import load_depth_net, save_depth_net
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime.consistency import rank_correlation, unfit
from ssmde_ros.runtime.export import ExportConfig, export
from ssmde_ros.training.generations import STUDENT, Generations, new_generation
from test.nodes.harness import NodeProcess, camera_info, depth_of

FAST = {"engine": "torch", "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def scene():
    """A street, seen with a camera of 128x96."""
    camera = PinholeCamera(128, 96, 100.0, 100.0, 64.0, 48.0)
    frame = SyntheticWorld(WorldConfig("street", 4, camera)).render(0.5)
    return (frame.image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Weights that are a little better or worse than the shipped ones, and some that are ruined."""
    folder = tmp_path_factory.mktemp("weights")
    net, _ = load_depth_net(default_weights())
    with torch.no_grad():
        net.decoder.heads[0].bias += 0.05
        save_depth_net(net, folder / "other.safetensors", {})
        for head in net.decoder.heads:
            head.weight.zero_()
        save_depth_net(net, folder / "flat.safetensors", {})
    net, _ = load_depth_net(default_weights())
    with torch.no_grad():
        for head in net.decoder.heads:
            head.weight.neg_()
            head.bias.neg_()
        save_depth_net(net, folder / "inside_out.safetensors", {})
    with safe_open(default_weights(), framework="np") as file:
        metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    config = json.loads(metadata["config"])
    config["widths"] = [2 * width for width in config["widths"]]
    save_file(arrays, folder / "narrow.safetensors", metadata | {"config": json.dumps(config)})
    arrays.popitem()
    save_file(arrays, folder / "lacking.safetensors", metadata)
    return folder


@pytest.fixture(scope="module")
def node(ros):
    with NodeProcess("/swap", FAST | {"camera_info_timeout": 0.2}) as process:
        yield process


@pytest.mark.slow
@pytest.mark.parametrize(("name", "why"), [("flat", "depth is flat"), ("inside_out", "depth is")])
def test_ruined_weights_are_refused_on_the_newest_frame(node, peer, files, scene, name, why):
    status = refused(peer("/swap"), scene, files / f"{name}.safetensors", f"refused: {name}")
    assert why in status.message


@pytest.mark.slow
def test_weights_that_their_network_does_not_take_are_refused_while_depth_flows(node, peer, files, scene):
    me = peer("/swap")
    answer = me.set(weights=str(files / "lacking.safetensors"))
    assert not answer.successful and "lacks 1 tensors" in answer.reason
    # Of a network that has not run yet it shows when it is made.
    status = refused(me, scene, files / "narrow.safetensors", "the architecture needs")
    assert "refused" in status.message


def refused(me, scene, weights, told):
    """Set weights whose file is in order but that must not run; the status that tells so. What ran before goes on."""
    before = depth_of(me.settled(image=scene, info=camera_info())).copy()
    assert me.set(weights=str(weights)).successful, "the file itself is in order"
    status, values = me.status(lambda s: told in s.message, doing=lambda: me.send(image=scene, info=camera_info()))
    assert "student-tiny" in values["weights"]
    assert me.spin(lambda: me.get("weights") == ""), "the parameter tells what runs"
    assert np.array_equal(before, depth_of(me.settled(image=scene, info=camera_info())))
    return status


@pytest.mark.slow
def test_a_swap_drops_no_frame_and_can_be_taken_back(node, peer, files, scene):
    me = peer("/swap")
    before = depth_of(me.settled(image=scene, info=camera_info())).copy()
    me.trigger("reset")
    me.set(weights=str(files / "other.safetensors"))
    sent, got = [], me.got["depth"]
    got.clear()

    def swapped():
        return any("other" in p.value for s in me.diagnostics for p in s.values if p.key == "weights")

    def next_frame():
        # Only when the one before is back: a node that is still busy may drop frames, swap or no swap.
        if len(got) == len(sent):
            sent.append(me.send(image=scene, info=camera_info()))

    assert me.spin(swapped, doing=next_frame), f"{len(sent)} sent, {len(got)} back"
    assert me.spin(lambda: len(got) >= len(sent)), f"{len(sent)} sent, {len(got)} back"
    assert [m.header.stamp.sec for m in got] == sent, "every frame came back, in order"
    assert not np.array_equal(before, depth_of(me.settled(image=scene, info=camera_info())))
    answer = me.trigger("rollback")
    assert answer.success
    assert answer.message.startswith("going back to student-tiny")
    assert "running other" in answer.message
    back = lambda: "student-tiny" in me.status()[1]["weights"]  # noqa: E731
    assert me.spin(back, doing=lambda: me.send(image=scene, info=camera_info()))
    assert np.array_equal(before, depth_of(me.settled(image=scene, info=camera_info())))
    assert me.trigger("rollback").message.startswith("going back to other"), "and forth again"
    me.set(weights="")


@pytest.mark.slow
def test_an_exported_file_takes_over_and_a_torn_one_does_not(node, peer, files, scene, tmp_path):
    me = peer("/swap")
    path = tmp_path / "other.ts"
    export(*load_depth_net(files / "other.safetensors"), ExportConfig("torchscript", size=(96, 128)), path)
    assert me.set(weights=str(path)).successful
    taken = lambda: "other.ts" in me.status()[1]["weights"]  # noqa: E731
    assert me.spin(taken, doing=lambda: me.send(image=scene, info=camera_info()))
    assert np.isfinite(depth_of(me.settled(image=scene, info=camera_info()))).any()
    (tmp_path / "torn.ts").write_bytes(path.read_bytes()[:1000])
    answer = me.set(weights=str(tmp_path / "torn.ts"))
    assert not answer.successful and "is it a whole torchscript file?" in answer.reason
    assert me.set(weights="").successful
    back = lambda: "student-tiny" in me.status()[1]["weights"]  # noqa: E731
    assert me.spin(back, doing=lambda: me.send(image=scene, info=camera_info()))


@pytest.mark.slow
def test_latest_follows_what_is_promoted(ros, peer, files, scene, tmp_path):
    generations = Generations(tmp_path)

    def add(name, state):
        number = generations.next_number()
        record = new_generation(number, "shipped", None, state=state, reason="", identity="", gain=0.1)
        generations.add(record, lambda folder: shutil.copy(files / f"{name}.safetensors", folder / STUDENT))

    with NodeProcess("/follow", FAST | {"weights": "latest", "generations": tmp_path}):
        me = peer("/follow")
        first = depth_of(me.settled(image=scene, info=camera_info())).copy()
        add("other", "rejected")
        me.spin(lambda: False, timeout=2.5)
        assert np.array_equal(first, depth_of(me.settled(image=scene, info=camera_info())))
        add("other", "promoted")
        stop = lambda: any(STUDENT in p.value for s in me.diagnostics for p in s.values if p.key == "weights")  # noqa: E731
        assert me.spin(stop, doing=lambda: me.send(image=scene, info=camera_info()))
        assert not np.array_equal(first, depth_of(me.settled(image=scene, info=camera_info())))
        generations.rollback()
        back = lambda: "student-tiny" in me.status()[1]["weights"]  # noqa: E731
        assert me.spin(back, doing=lambda: me.send(image=scene, info=camera_info()))


def ramp():
    return np.linspace(1, 50, 96 * 128).reshape(96, 128)


def test_the_unit_may_change_and_the_order_may_not():
    old = ramp()
    assert unfit(old, 3.7 * old) == ""
    assert unfit(old, old**1.5) == ""
    assert "nothing in common" in unfit(old, 60 / old)
    assert "nothing in common" in unfit(old, np.random.default_rng(0).permutation(old.ravel()).reshape(old.shape))
    assert "flat" in unfit(old, np.full_like(old, 5.0))
    assert "fewer than half" in unfit(old, np.full_like(old, np.nan))
    assert "pixels where" in unfit(old, old[:48])


def test_a_flat_scene_proves_nothing():
    assert unfit(np.full((96, 128), 5.0), ramp()) == ""


def test_rank_correlation_in_closed_form():
    a = np.array([3.0, 1.0, 2.0, 4.0])
    assert rank_correlation(a, a**3) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)
    # 1 - 6 sum d^2 / (n (n^2 - 1)), with ranks (2, 0, 1, 3) and (0, 1, 2, 3): d^2 sums to 6.
    assert rank_correlation(a, np.arange(4.0)) == pytest.approx(1 - 6 * 6 / (4 * 15))
