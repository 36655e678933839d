"""Schedules, the teacher, and the settings of a run."""

import math
from copy import deepcopy
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ssmde_ros.commands.train import defaults_as_yaml
from ssmde_ros.data.triplets import TripletConfig, Triplets
from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import DepthNet, DepthNetConfig
from ssmde_ros.training.config import TrainConfig, TrainConfigError, merged, parse_config, read_config
from ssmde_ros.training.schedules import Forgetting, Ramp, WarmupCosine
from ssmde_ros.training.step import Step
from ssmde_ros.training.teacher import Teacher
from test.training.scenes import training_clip

# --- schedules -----------------------------------------------------------------------------------


def test_forgetting_is_a_power_of_gamma_with_a_floor():
    forget = Forgetting(0.5, 0.8, 0.1)
    assert forget[0] == 0.5
    assert forget[1.5] == pytest.approx(0.5 * 0.8**1.5)
    assert forget[100] == 0.1
    assert Forgetting(0.5)[1e6] == 0.5, "gamma 1 never forgets"
    assert Forgetting(0.5, 0.8)[1e6] == 0
    assert Forgetting(0.0, 0.8, 0.3)[0] == 0, "a term that is off stays off, whatever its floor"


@given(start=st.floats(0, 100), gamma=st.floats(0.01, 1), floor=st.floats(0, 100), epoch=st.floats(0, 1000))
def test_forgetting_stays_between_floor_and_start_and_never_rises(start, gamma, floor, epoch):
    forget = Forgetting(start, gamma, floor)
    assert min(floor, start) <= forget[epoch] <= start
    assert forget[epoch + 1] <= forget[epoch]


def test_warm_up_then_flat_then_a_cosine():
    rate = WarmupCosine(0.1, 0.5, 0.2)
    assert rate[0] == 0
    assert rate[0.05] == pytest.approx(0.5)
    assert rate[0.1] == rate[0.3] == rate[0.5] == 1
    assert rate[0.75] == pytest.approx(0.6), "half way down"
    assert rate[1] == pytest.approx(0.2)
    assert rate[7] == rate[1], "a run that overshoots does not rise again"
    assert rate[-1] == rate[0]
    assert WarmupCosine(0.0, 0.0, 0.0)[0] == 1, "no warm-up starts at full rate"


@given(progress=st.floats(-1, 2), warmup=st.floats(0, 0.4), flat=st.floats(0.4, 0.99), end=st.floats(0, 1))
def test_the_rate_is_a_factor(progress, warmup, flat, end):
    assert 0 <= WarmupCosine(warmup, flat, end)[progress] <= 1


def test_a_ramp_waits_then_rises():
    ramp = Ramp(0.4, begin=2, length=4)
    assert [ramp[e] for e in (0, 1.99, 2, 4, 6, 60)] == pytest.approx([0, 0, 0, 0.2, 0.4, 0.4])
    assert Ramp(0.4)[0] == 0.4
    assert Ramp(0.4, begin=1)[0.999] == 0
    assert Ramp(0.4, begin=1)[1] == 0.4


@pytest.mark.parametrize(
    "make",
    [
        lambda: Forgetting(-1),
        lambda: Forgetting(1, 0),
        lambda: Forgetting(1, 1.1),
        lambda: Forgetting(1, 0.5, -0.1),
        lambda: WarmupCosine(-0.1),
        lambda: WarmupCosine(0.5, 0.3),
        lambda: WarmupCosine(0, 1),
        lambda: WarmupCosine(end=2),
    ],
)
def test_schedules_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="need"):
        make()


# --- teacher -------------------------------------------------------------------------------------


def small_net(seed=0):
    torch.manual_seed(seed)
    return DepthNet(DepthNetConfig(widths=(4, 4, 4, 4, 4), input_width=96, input_height=64))


def values(module):
    return torch.cat([p.detach().double().flatten() for p in module.parameters()])


def test_the_average_follows_the_closed_form_with_warm_up():
    teacher = Teacher(small_net(0), 0.3)
    expected = values(teacher.net)
    for step in range(1, 5):
        student = small_net(step)
        momentum = min(0.3, (1 + step) / (10 + step))
        assert (momentum == 0.3) == (step >= 3), "the test must see both the warm-up and what follows"
        expected = momentum * expected + (1 - momentum) * values(student)
        teacher.update(student)
        torch.testing.assert_close(values(teacher.net), expected, rtol=1e-5, atol=1e-6)
    assert teacher.updates == 4


def test_buffers_are_copied_and_the_student_is_left_alone():
    teacher, student = Teacher(small_net(), 0.99), small_net(1)
    names = [n for n, b in student.named_buffers() if n.endswith("running_mean")]
    assert names
    student.get_buffer(names[0]).fill_(7)
    before = deepcopy(student.state_dict())
    teacher.update(student)
    assert (teacher.net.get_buffer(names[0]) == 7).all()
    student.get_buffer(names[0]).fill_(8)
    assert (teacher.net.get_buffer(names[0]) == 7).all(), "a copy, not a view"
    student.load_state_dict(before)
    assert all(torch.equal(before[k], v) for k, v in student.state_dict().items())


def test_a_frozen_teacher_never_changes():
    origin = small_net()
    teacher = Teacher(origin, 1.0)
    before = deepcopy(teacher.state_dict())
    for seed in range(1, 4):
        teacher.update(small_net(seed))
    with torch.no_grad():
        for parameter in origin.parameters():
            parameter.zero_()
    assert teacher.updates == 0
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())


@pytest.mark.parametrize("momentum", [0.0, -0.1, 1.1, math.nan])
def test_a_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match="momentum"):
        Teacher(small_net(), momentum)


def test_the_teacher_stays_in_eval_mode_whatever_holds_it():
    holder = torch.nn.ModuleDict({"teacher": Teacher(small_net().train(), 0.9)})
    assert holder.train() is holder
    assert not any(m.training for m in holder["teacher"].modules())


def test_updates_survive_a_round_trip():
    teacher = Teacher(small_net(), 0.9)
    for seed in range(3):
        teacher.update(small_net(seed))
    other = Teacher(small_net(9), 0.9)
    other.load_state_dict(deepcopy(teacher.state_dict()))
    assert other.updates == 3
    for both in (teacher, other):
        both.update(small_net(5))
    torch.testing.assert_close(values(other.net), values(teacher.net), rtol=0, atol=0)


def test_the_teacher_gets_no_gradient_and_sees_the_clean_frames():
    batch = next(iter(Triplets([training_clip(frames=3)], TripletConfig(jitter=0.5), 1, 1)))
    teacher = Teacher(small_net(), 0.9)
    assert not any(p.requires_grad for p in teacher.parameters())
    seen = teacher.look(batch)
    assert not seen.depth.requires_grad
    with torch.no_grad():
        target = batch.frames[:, 0]
        close = {"rtol": 1e-4, "atol": 1e-4}
        torch.testing.assert_close(seen.depth, teacher.net.depth(target), **close)
        torch.testing.assert_close(seen.flipped, teacher.net.depth(target.flip(-1)).flip(-1), **close)
        torch.testing.assert_close(seen.augmented, teacher.net.depth(batch.augmented[:, 0]), **close)
        for number in range(2):
            source = batch.frames[:, 1 + number]
            torch.testing.assert_close(seen.source_depths[number], teacher.net.depth(source), **close)
            torch.testing.assert_close(seen.source_features[number], teacher.net.features(source)[1], **close)
        torch.testing.assert_close(seen.features, teacher.net.features(target)[1], **close)
    assert seen.features.shape[2:] == (16, 24), "stride 4"
    assert not torch.equal(seen.augmented, seen.depth)


# --- what one step is worth ----------------------------------------------------------------------


def test_a_step_sums_its_weighted_terms_and_says_when_there_are_none():
    step = Step()
    with pytest.raises(SsmdeError, match="switched off"):
        _ = step.total
    step.add("a", torch.tensor(2.0), 0.5)
    step.add("b", torch.tensor(3.0, requires_grad=True), 2.0)
    assert step.total.item() == 7
    assert step.total.requires_grad


# --- settings ------------------------------------------------------------------------------------


def written(tmp_path, text):
    path = tmp_path / "train.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


BAD = {
    "loss: {photometrc: 1.0}": "photometrc",
    "losses: {}": "losses",
    "1: 2": "1",
    'loss: {"two\\nlines": 1}': "two lines",
    "clips: [{path: a.mp4, widht: 320}]": "widht",
    "clips: [{width: 320}]": "clips.path",
    "clips: [{path: 5}]": r"clips\[0\].path",
    "clips: {path: a.mp4}": "clips",
    "clips: a.mp4": "clips",
    "clips: [a.mp4]": r"clips\[0\]",
    "clips: [{path: a.mp4, hfov: .nan}]": "hfov",
    "clips: [{path: a.mp4, width: 33}]": "working size",
    "clips: [{path: a.mp4}, {path: b.mp4, width: 64}]": "clips: all must have one working size",
    "triplets: {gaps: 3}": "triplets.gaps",
    'triplets: {gaps: "48"}': "triplets.gaps",
    "triplets: {gaps: [1.5]}": "triplets.gaps",
    "triplets: {gaps: []}": "gaps",
    "loss:": "loss",
    "loss: []": "loss",
    "loss: {photometric: high}": "loss.photometric",
    'loss: {photometric: "two\\nlines"}': "loss.photometric",
    "loss: {photometric: -1}": "photometric",
    "loss: {static_difference: -0.1}": "static_difference",
    "loss: {photometric: .nan}": "loss.photometric",
    "loss: {photometric: .inf}": "loss.photometric",
    "loss: {photometric: 1e999}": "loss.photometric",
    "loss: {photometric: true}": "loss.photometric",
    "loss: {auto_mask: 1}": "loss.auto_mask",
    "loss: {photometric_scales: 5}": "photometric_scales",
    "loss: {photometric_scales: 1.5}": "loss.photometric_scales",
    "loss: {gamma: 0}": "gamma",
    "model: {min_depth: 5}": "min_depth",
    "model: {max_depth: .inf}": "max_depth",
    "pose: {source: gps}": "pose.source",
    "pose: {source: odometry}": "odometry",
    "pose: {min_points: 0}": "min_points",
    "teacher: {kind: old}": "teacher.kind",
    "teacher: {momentum: 1.0}": "momentum",
    "mask: {geometry: 1.0}": "geometry",
    "mask: {geometry: .nan}": "mask.geometry",
    "mask: {percentile: 0}": "percentile",
    "mask: {features: 1}": "features",
    "mask: {min_views: 0}": "min_views",
    "pseudo: {kind: leres}": "pseudo.path",
    "pseudo: {path: 5}": "pseudo.path",
    "optim: {learning_rate: 0}": "learning_rate",
    "optim: {encoder_factor: -1}": "encoder_factor",
    "optim: {weight_decay: -0.1}": "weight_decay",
    "optim: {flat: 1.5}": "flat",
    "optim: {average: 1.0}": "average",
    "run: {steps: 0}": "steps",
    "run: {steps: true}": "run.steps",
    "run: {seed: -1}": "seed",
    "run: {out: 5}": "run.out",
    "run: {out: }": "run.out",
    "[1, 2]": "mapping",
    "[]": "mapping",
    "just words": "mapping",
    "loss: {photometric: 1": "cannot be read",
    "a: b: c": "cannot be read",
    "loss: !!python/object:os.system {}": "cannot be read",
}


@pytest.mark.parametrize(("text", "named"), BAD.items(), ids=list(BAD))
def test_bad_settings_are_refused_in_one_line_that_names_the_key(tmp_path, text, named):
    path = written(tmp_path, text)
    with pytest.raises(TrainConfigError, match=named) as refused:
        read_config(path)
    message = str(refused.value)
    assert "\n" not in message
    assert len(message) < 500
    assert str(path) in message


def test_files_that_cannot_be_read_are_refused_in_one_line(tmp_path):
    for path in (tmp_path / "missing.yaml", tmp_path, written(tmp_path, b"\xff\xfe\x00loss")):
        with pytest.raises(TrainConfigError, match="cannot be read") as refused:
            read_config(path)
        assert "\n" not in str(refused.value)


def test_an_empty_file_and_the_printed_defaults_are_the_defaults(tmp_path):
    assert read_config(written(tmp_path, "")) == TrainConfig()
    assert read_config(written(tmp_path, "# nothing\n")) == TrainConfig()
    assert read_config(written(tmp_path, defaults_as_yaml())) == TrainConfig()
    assert parse_config(asdict(TrainConfig())) == TrainConfig()


def test_numbers_are_read_as_people_write_them(tmp_path):
    config = read_config(written(tmp_path, "optim: {learning_rate: 1e-3, clip: 2}\nloss: {photometric: 1}"))
    assert config.optim.learning_rate == 1e-3
    assert config.optim.clip == 2
    assert config.loss.photometric == 1


def test_overrides_lie_over_the_file(tmp_path):
    path = written(tmp_path, "loss: {gamma: 0.5, photometric: 2.0}")
    config = read_config(path, {"loss": {"gamma": 0.9}, "run": {"out": "elsewhere"}})
    assert (config.loss.gamma, config.loss.photometric) == (0.9, 2.0)
    assert config.run.out == Path("elsewhere")
    with pytest.raises(TrainConfigError, match="loss"):
        read_config(path, {"loss": 5})


def test_merging_leaves_both_inputs_alone():
    base, over = {"a": {"b": 1, "c": {"d": 2}}, "e": [1]}, {"a": {"c": {"d": 3, "f": 4}}, "e": 5}
    kept = deepcopy((base, over))
    assert merged(base, over) == {"a": {"b": 1, "c": {"d": 3, "f": 4}}, "e": 5}
    assert (base, over) == kept
    assert merged({"a": 1}, {"a": {"b": 2}}) == {"a": {"b": 2}}


# Values that differ from the default, where a rule made from the type alone would be out of range.
SPECIAL = {
    "width": 64, "height": 64, "last": 9, "image_topic": "/image", "camera_info_topic": "/info", "hfov": 60.0,
    "gaps": [2, 3], "min_depth": 0.2, "start_depth": 4.0, "momentum": 0.5, "geometry": 0.2, "features": 0.3,
    "photometric_scales": 2, "percentile": 50.0, "roll": 5.0, "gamma": 0.5, "flat": 0.6, "warmup": 0.1, "end": 0.5,
    "average": 0.5, "convention": "depth", "cache": "maps",
}  # fmt: skip


def other_value(name, kind, default):
    """Something else than the default, as YAML would give it."""
    if name in SPECIAL:
        return SPECIAL[name]
    if kind is bool:
        return not default
    if kind is int:
        return default + 1
    if kind is float:
        return default / 2 + 0.3
    if get_origin(kind) is not None and isinstance(default, str):
        return next(v for v in get_args(kind) if v not in (default, "odometry"))
    return "another"


def settable(kind, prefix=()):
    for field in fields(kind):
        hint = get_type_hints(kind)[field.name]
        if is_dataclass(hint):
            yield from settable(hint, (*prefix, field.name))
        elif field.name == "clips":
            yield from settable(get_args(hint)[0], ("clips",))
        else:
            yield (*prefix, field.name), hint, field.default


FIELDS = {".".join(where): (where, hint, default) for where, hint, default in settable(TrainConfig)}


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_can_be_set_from_yaml(tmp_path, name):
    where, hint, default = FIELDS[name]
    value = other_value(where[-1], hint, default)
    section = {where[-1]: value}
    if where[0] == "clips":
        section = [{"path": "a.mp4", **section}]
    elif where[0] == "pseudo" and where[-1] == "kind":
        section = {"kind": "leres", "path": "weights.pth"}
        value = "leres"
    config = read_config(written(tmp_path, yaml.safe_dump({where[0]: section})))
    held = getattr(config, where[0])
    found = getattr(held[0] if where[0] == "clips" else held, where[-1])
    assert found != default
    assert found == (tuple(value) if isinstance(value, list) else type(found)(value))
    assert isinstance(found, Path) == (hint is Path or Path in get_args(hint))
