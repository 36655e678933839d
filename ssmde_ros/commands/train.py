"""`ssmde train`: self-distillation on recordings; with --bag, a fine-tune that is judged before it is used."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from tqdm.contrib.logging import logging_redirect_tqdm

from ssmde_ros.data.clip import ClipConfig
from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import load_depth_net
from ssmde_ros.training.config import TrainConfig, TrainConfigError, read_config
from ssmde_ros.training.config_values import merged

_WITH_BAG = ("params", "start", "odometry", "image_topic", "camera_info_topic", "resume")


def add_parser(commands: Any) -> None:
    """Add `train` to the command line."""
    parser = commands.add_parser(
        "train",
        help="self-distillation on recordings",
        description="Trains the student on videos and bags by SS-MDE: photometric self-supervision, pseudo-depth under "
        "a forgetting factor, and a teacher behind the multi-view mask filter.\n\n"
        "With --bag it fine-tunes on one recording: chooses key frames, finds odometry, holds a part out, and writes a "
        "generation to OUT/generations, promoted only if the held-out part says that it is better. Without, it runs "
        "the CONFIG and writes OUT/student.safetensors.\n\n"
        "Interrupted, the same command goes on where it stopped. Watch it with `tensorboard --logdir OUT`.",
        epilog="examples:\n"
        "  ssmde train --bag my_bag --minutes 20 --out runs/robot\n"
        "  ssmde generations list runs/robot\n"
        "  ssmde train recipes/kitchen_odometry.yaml --out runs/kitchen --minutes 10\n"
        "every key: ssmde train --show-defaults; config/train.yaml for --bag\n"
        "exit code: 0 trained (with --bag: and promoted), 3 not better and kept as rejected, 1 an error,\n"
        "or stopped by a signal with its checkpoint written; one line says which; 130 Ctrl-C while it still\n"
        "reads, or a second one: stopped at once",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--bag", type=Path, help="fine-tune on this bag, video or folder of images")
    parser.add_argument("--params", type=Path, help="with --bag: YAML laid over config/train.yaml")
    parser.add_argument(
        "--start", help="with --bag: latest (promoted in OUT, else shipped), shipped, or a weights file"
    )
    parser.add_argument("--odometry", help="with --bag: auto, none or a topic")
    parser.add_argument("--image-topic", help="with --bag: needed when it has several")
    parser.add_argument("--camera-info-topic", help="with --bag: needed when it has several")
    parser.add_argument("--resume", action="store_true", help="with --bag: insist on a run that was cut off")
    parser.add_argument("config", type=Path, nargs="?", help="YAML file; see recipes/")
    parser.add_argument("--out", type=Path, help="output folder, instead of run.out")
    parser.add_argument("--minutes", type=float, help="wall-clock budget, instead of run.minutes")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one key, such as loss.gamma=0.9; with --bag held_out=0.3 or train.loss.gamma=0.9",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="start anew, whatever checkpoint lies in the output folder"
    )
    parser.add_argument("--show-defaults", action="store_true", help="print every key with its default and leave")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Train, and say where the weights are."""
    if options.show_defaults:
        print(defaults_as_yaml(), end="")
        return 0
    if options.bag is not None:
        if options.config is not None:
            raise SsmdeError(f"--bag fine-tunes by config/train.yaml; lay {options.config} over it with --params")
        return run_fine_tune(options)
    if options.config is None:
        raise SsmdeError("name a recording (ssmde train --bag BAG) or a configuration (start from one in recipes/)")
    for name in _WITH_BAG:
        if getattr(options, name):
            raise SsmdeError(f"--{name.replace('_', '-')} goes with --bag; of a CONFIG the file says it, or --set")
    config = read_config(options.config, overrides(options))
    # Torch and Lightning take seconds to load: not for --help or a typo in the configuration.
    from ssmde_ros.training.run import fit, prepare

    with _told():
        clips, convention = prepare(config)
        module, weights = fit(config, clips, convention, resume=not options.fresh)
    _, info = load_depth_net(weights)
    result = {
        "weights": str(weights),
        "identity": info.digest,
        "steps": module.global_step,
        "minutes": round(module.elapsed / 60, 2),
        "frames": sum(len(item.clip) for item in clips),
        "losses": {k: round(v.item(), 5) for k, v in module.last.terms.items()} if module.last else {},
    }
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(f"{result['steps']} steps in {result['minutes']} minutes; student: {weights} ({info.digest})")
        print(f"score it: ssmde eval --bag BAG --weights {weights}")
    return 0


def run_fine_tune(options: argparse.Namespace) -> int:
    """Fine-tune on one recording, and say what became of it."""
    from ssmde_ros.training.finetune_config import read_fine_tune

    values = assigned(options)
    given = {"bag": options.bag, "out": options.out, "start": options.start, "odometry": options.odometry}
    given |= {"image_topic": options.image_topic, "camera_info_topic": options.camera_info_topic}
    values |= {key: str(value) for key, value in given.items() if value is not None}
    if options.minutes is not None:
        values["minutes"] = options.minutes
    config = read_fine_tune(options.params, values)
    from ssmde_ros.training.finetune import fine_tune, finish_writing, unfinished
    from ssmde_ros.training.generations import Generations

    out = Path(config.out).expanduser()
    if options.resume and unfinished(out) is None:
        written = finish_writing(Generations(out))
        if written is not None:
            print(f"generation {written.name} was written before the end came; it is {written.state}: {written.reason}")
            return 0 if written.state == "promoted" else 3
        raise SsmdeError(f"{out} holds no run to resume; leave --resume out to start one")
    with _told():
        generation, verdict = fine_tune(config, resume=not options.fresh)
    folder = Generations(out).folder(generation.number)
    if options.json:
        found = {name: vars(each) for name, each in verdict.compared.items()}
        print(json.dumps({"folder": str(folder), **vars(generation), "compared": found}, indent=2))
    else:
        print(f"generation {generation.name} is {generation.state}: {generation.reason}")
        print(f"report: {folder / 'report.md'}; use it: weights:={folder / 'student.safetensors'}")
    return 0 if verdict.promoted else 3


@contextmanager
def _told() -> Iterator[None]:
    """What we have to say is shown, above the progress bars; Lightning's devices and tips are not."""
    logging.getLogger("ssmde_ros").setLevel(logging.INFO)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with logging_redirect_tqdm():
        yield


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    """What the flags say, as nested mappings."""
    values = assigned(options)
    if options.out is not None:
        values = merged(values, {"run": {"out": str(options.out)}})
    if options.minutes is not None:
        values = merged(values, {"run": {"minutes": options.minutes}})
    return values


def assigned(options: argparse.Namespace) -> dict[str, Any]:
    """What --set says, as nested mappings."""
    values: dict[str, Any] = {}
    for assignment in options.set:
        key, separator, text = assignment.partition("=")
        if not separator or not key:
            raise TrainConfigError(f"--set needs KEY=VALUE, got {assignment!r}")
        nested: Any = yaml.safe_load(text)
        for part in reversed(key.split(".")):
            nested = {part: nested}
        values = merged(values, nested)
    return values


def defaults_as_yaml() -> str:
    """Every key with its default value, and one clip, which has none."""
    from dataclasses import asdict

    example = TrainConfig(clips=(ClipConfig(Path("my_bag")),))
    text = json.dumps(asdict(example), default=str)
    return str(yaml.safe_dump(json.loads(text), sort_keys=False))
