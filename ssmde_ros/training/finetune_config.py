"""Settings of a fine-tune, from `config/train.yaml` and what is laid over it; validated once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dacite
import yaml

from ssmde_ros.data.clip import ClipConfig
from ssmde_ros.data.key_frames import KeyFrameConfig
from ssmde_ros.data.recording import RecordingConfig
from ssmde_ros.resources import find_resource
from ssmde_ros.training.config import TrainConfig, TrainConfigError, parse_config
from ssmde_ros.training.config_values import check_values, merged, number

DEFAULTS = "config/train.yaml"
_SETTLED = {
    "clips": "bag", "model.init": "start", "pose.source": "odometry", "triplets.gaps": "key_frames.gaps",
    "triplets.seed": "seed", "run.out": "out", "run.minutes": "minutes", "run.seed": "seed",
}  # fmt: skip
"""Keys of a training that a fine-tune sets itself, and the key that counts instead."""


@dataclass(frozen=True)
class FineTuneConfig:
    """One recording, one new generation. The comments in `config/train.yaml` explain every key."""

    bag: str = ""
    image_topic: str = ""
    camera_info_topic: str = ""
    odometry: str = "auto"
    depth_topic: str = "auto"
    hfov: float = 0.0
    width: int = 0
    height: int = 0
    pixels: int = 49152
    out: str = "runs/finetune"
    start: str = "latest"
    minutes: float = 20.0
    seed: int = 0
    held_out: float = 0.2
    min_gain: float = 0.01
    p_value: float = 0.01
    patience: int = 4
    validate_every: float = 2.0
    replay_frames: int = 240
    replay_variations: int = 0
    replay_batch: int = 4
    replay_weight: float = 1.0
    recording: RecordingConfig = field(default_factory=RecordingConfig)
    key_frames: KeyFrameConfig = field(default_factory=KeyFrameConfig)
    train: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float]] = {
            "minutes": (0, 1e5), "held_out": (0.05, 0.5), "min_gain": (0, 1), "p_value": (1e-4, 0.5),
            "patience": (1, 1000), "validate_every": (0.01, 1e4), "replay_frames": (0, 250), "replay_weight": (0, 100),
            "replay_variations": (0, 8), "replay_batch": (1, 16),
            "pixels": (4096, 1e6), "seed": (0, 2**31), "hfov": (0, 179.9),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie in [{low:g}, {high:g}], got {getattr(self, name)}")
        if bool(self.width) != bool(self.height):
            raise ValueError("width and height go together; 0 and 0 chooses a size")

    def clip(self, width: int, height: int) -> ClipConfig:
        """How the recording is read."""
        return ClipConfig(
            Path(self.bag).expanduser(),
            self.width or width,
            self.height or height,
            image_topic=self.image_topic or None,
            camera_info_topic=self.camera_info_topic or None,
            hfov=self.hfov,
        )

    def run(self, folder: Path, pose: str, start: Path) -> TrainConfig:
        """Settings of the training itself.

        Args:
            folder: of checkpoints and logs.
            pose: source of the ego-motion.
            start: weights to begin with, and to be taught by.
        """
        settled = {
            "model": {"init": str(start)},
            "pose": {"source": pose},
            "triplets": {"seed": self.seed},
            "run": {"out": str(folder), "minutes": self.minutes, "seed": self.seed},
        }
        # Motions are attached by then; a clip entry only has to say that there is odometry.
        clips = {"clips": [{"path": self.bag, "odometry": "auto"}]} if pose == "odometry" else {}
        return parse_config(merged(merged(self.train, settled), clips), "train")


def parse_fine_tune(values: dict[str, Any], where: str = "fine-tune") -> FineTuneConfig:
    """Validated settings from nested mappings.

    Raises:
        TrainConfigError: an unknown key, a wrong type or a value out of range; one line that names it.
    """
    train = values.get("train", {})
    try:
        check_values(FineTuneConfig, {k: v for k, v in values.items() if k != "train"}, "")
        hooks = dacite.Config(cast=[tuple], type_hooks={float: number})
        config = dacite.from_dict(FineTuneConfig, values, hooks)
    except (dacite.DaciteError, ValueError, TypeError) as error:
        raise TrainConfigError(f"{where}: {' '.join(str(error).split())}") from error
    for key, instead in _SETTLED.items():
        if _has(train, key.split(".")):
            raise TrainConfigError(f"{where}: train.{key} is settled by {instead}: set that instead")
    parsed = parse_config(train, f"{where}: train")  # refuses here, not after an hour of reading
    weight = parsed.loss.pseudo if "pseudo" in train.get("loss", {}) else 0.0  # not the default of a recipe
    if (parsed.pseudo.kind != "none") != (weight > 0):
        raise TrainConfigError(
            f"{where}: train.pseudo.kind is {parsed.pseudo.kind} and train.loss.pseudo {weight:g}: pseudo-depth teaches with "
            "a kind and a weight, such as 0.5; to do without, set none and 0"
        )
    return config


def _has(values: Any, keys: list[str]) -> bool:
    return not keys or (isinstance(values, dict) and keys[0] in values and _has(values[keys[0]], keys[1:]))


def read_parameters(path: Path) -> dict[str, Any]:
    """Nested values of a ROS parameter file, or of a plain YAML file.

    Raises:
        TrainConfigError: a file that cannot be read, or holds something else.
    """
    try:
        values = yaml.safe_load(path.read_text("utf-8")) or {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise TrainConfigError(f"parameter file {path} cannot be read: {' '.join(str(error).split())}") from error
    if isinstance(values, dict) and len(values) == 1:
        inner = next(iter(values.values()))
        if isinstance(inner, dict) and "ros__parameters" in inner:
            values = inner["ros__parameters"]
    if not isinstance(values, dict):
        raise TrainConfigError(f"parameter file {path} must be a mapping, not a {type(values).__name__}")
    return values


def read_fine_tune(path: Path | None = None, overrides: dict[str, Any] | None = None) -> FineTuneConfig:
    """The shipped `config/train.yaml`, a file laid over it, and `overrides` over both."""
    values = read_parameters(find_resource(DEFAULTS))
    if path is not None:
        values = merged(values, read_parameters(path))
    return parse_fine_tune(merged(values, overrides or {}), str(path or DEFAULTS))
