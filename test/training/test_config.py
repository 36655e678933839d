"""Settings of a run: YAML in, validated dataclasses out."""

from copy import deepcopy
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import get_args, get_origin, get_type_hints

import pytest
import yaml

from ssmde_ros.commands.train import defaults_as_yaml
from ssmde_ros.data.clip import ClipConfig
from ssmde_ros.training.config import TrainConfig, TrainConfigError, parse_config, read_config
from ssmde_ros.training.config_values import merged


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
    printed = read_config(written(tmp_path, defaults_as_yaml()))
    assert printed == TrainConfig(clips=(ClipConfig(Path("my_bag")),)), "with an example of a clip"
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
