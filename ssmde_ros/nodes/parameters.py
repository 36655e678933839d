"""The depth node's parameters: one table that declares, documents and validates them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from ssmde_ros.runtime import CloudConfig, EngineConfig, EstimatorConfig
from ssmde_ros.runtime.engines import EngineName, EnginePrecision
from ssmde_ros.training.generations import Generations

Value = str | bool | int | float

LATEST = "latest"
"""Value of `weights` that follows the promoted generation."""


@dataclass(frozen=True)
class Spec:
    """One parameter.

    Attributes:
        default: its value when nobody sets it; its type is the parameter's type.
        text: meaning and unit.
        limits: smallest and largest value of a number.
        choices: what a string may be; empty for anything.
        dynamic: may change while the node runs.
    """

    default: Value
    text: str
    limits: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = True


SPECS: dict[str, Spec] = {
    "weights": Spec(
        "",
        "Weights file (.safetensors), or one of `ssmde export`; empty for the shipped student; latest follows promotions.",
    ),
    "generations": Spec("", "Output folder of the fine-tunes that weights: latest follows.", dynamic=False),
    "engine": Spec("auto", "Inference engine.", choices=get_args(EngineName), dynamic=False),
    "device": Spec("auto", "auto, cpu, cuda or cuda:N.", dynamic=False),
    "precision": Spec(
        "auto",
        "auto: sixteen bits where the hardware multiplies them itself; or fp32.",
        choices=get_args(EnginePrecision),
        dynamic=False,
    ),
    "threads": Spec(0, "CPU threads of the engine, 0 for its choice.", (0, 256), dynamic=False),
    "input_width": Spec(
        0, "Network width in pixels, a multiple of 32; 0 follows the camera.", (0, 4096), dynamic=False
    ),
    "input_height": Spec(
        0, "Network height in pixels, a multiple of 32; 0 follows the camera.", (0, 4096), dynamic=False
    ),
    "image_transport": Spec(
        "raw", "Subscribe to image or image/compressed.", choices=("raw", "compressed"), dynamic=False
    ),
    "qos_reliability": Spec(
        "best_effort", "Reliability of the image subscription.", choices=("best_effort", "reliable"), dynamic=False
    ),
    "qos_depth": Spec(1, "Queue length of the image subscription, frames.", (1, 100), dynamic=False),
    "camera_info_timeout": Spec(1.0, "Seconds that the first frames wait for a matching camera_info.", (0.0, 60.0)),
    "rectify": Spec(
        True, "Undo the lens distortion that camera_info describes; image_rect* topics are left as they are."
    ),
    "scale": Spec(1.0, "Metres per network unit: factor on the depth.", (1e-6, 1e6)),
    "min_depth": Spec(0.1, "Metres; nearer becomes -inf (REP 117).", (0.0, 1e4)),
    "max_depth": Spec(80.0, "Metres; farther, the sky included, becomes +inf (REP 117).", (0.0, 1e4)),
    "depth_encoding": Spec("32FC1", "32FC1 (metres) or 16UC1 (millimetres).", choices=("32FC1", "16UC1")),
    "depth_size": Spec("camera", "Size of the published depth.", choices=("camera", "network")),
    "confidence": Spec(False, "Publish depth/confidence; costs a second inference while somebody listens."),
    "cloud.color": Spec(True, "Points carry the color of their pixel."),
    "cloud.organised": Spec(True, "One point per pixel, NaN where unknown; otherwise valid points only."),
    "cloud.decimation": Spec(1, "Keep every n-th row and column of points.", (1, 64)),
    "cloud.min_range": Spec(0.0, "Metres; nearer points are left out.", (0.0, 1e4)),
    "cloud.max_range": Spec(1e4, "Metres; farther points are left out.", (0.0, 1e4)),
    "color.near": Spec(0.5, "Metres; depth painted red in depth/color.", (1e-3, 1e4)),
    "color.far": Spec(80.0, "Metres; depth painted dark blue in depth/color.", (1e-3, 1e4)),
}


@dataclass(frozen=True)
class DepthNodeConfig:
    """All parameters of the depth node, checked together.

    Raises:
        ValueError: values that contradict one another; the message names them.
    """

    values: dict[str, Any]
    estimator: EstimatorConfig
    cloud: CloudConfig

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> DepthNodeConfig:
        """From parameter values by name; all names of `SPECS` are needed."""
        for name, spec in SPECS.items():
            if spec.choices and values[name] not in spec.choices:
                raise ValueError(f"{name} must be one of {', '.join(spec.choices)}, got {values[name]!r}")
        if values["weights"] == LATEST and not values["generations"]:
            raise ValueError("weights: latest needs the folder of the generations in `generations`")
        if not values["color.near"] < values["color.far"]:
            raise ValueError("color.near must be below color.far")
        estimator = EstimatorConfig(
            engine=EngineConfig(values["engine"], values["device"], values["threads"], values["precision"]),
            input_size=(values["input_width"], values["input_height"]),
            full_size=values["depth_size"] == "camera",
            rectify=values["rectify"],
            scale=values["scale"],
            min_depth=values["min_depth"],
            max_depth=values["max_depth"],
        )
        cloud = CloudConfig(
            color=values["cloud.color"],
            organised=values["cloud.organised"],
            decimation=values["cloud.decimation"],
            min_range=values["cloud.min_range"],
            max_range=values["cloud.max_range"],
        )
        return cls(dict(values), estimator, cloud)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def weights(self) -> Path | None:
        """The weights file asked for, None for the shipped one.

        Raises:
            SsmdeError: the folder of the generations cannot be read.
        """
        if self.values["weights"] == LATEST:
            return Generations(Path(self.values["generations"]).expanduser()).latest_weights()
        return Path(self.values["weights"]) if self.values["weights"] else None


def descriptor(spec: Spec, still_open: bool = False) -> ParameterDescriptor:
    """What `ros2 param describe` shows; rclpy enforces the range and the read-only flag by it.

    Args:
        still_open: leave the read-only flag out while start-up may yet replace the value.
    """
    made = ParameterDescriptor(description=spec.text, read_only=not spec.dynamic and not still_open)
    made.additional_constraints = f"one of: {', '.join(spec.choices)}" if spec.choices else ""
    if spec.limits and isinstance(spec.default, float):
        made.floating_point_range = [FloatingPointRange(from_value=spec.limits[0], to_value=spec.limits[1], step=0.0)]
    elif spec.limits:
        made.integer_range = [IntegerRange(from_value=int(spec.limits[0]), to_value=int(spec.limits[1]), step=1)]
    return made


# Parameters that only make sense together; where they do not, both go back to their defaults.
_PAIRS = (
    ("min_depth", "max_depth"),
    ("color.near", "color.far"),
    ("cloud.min_range", "cloud.max_range"),
    ("input_width", "input_height"),
    ("weights", "generations"),
)


def declare(node: Node) -> tuple[DepthNodeConfig, list[str]]:
    """Declare every parameter and read the initial values.

    A value that is refused (wrong type, out of range, contradicting another) is replaced by its
    default, and it alone, so that one typing error in a YAML file does not keep the robot blind.

    Returns:
        The configuration, and one line per refused or unknown parameter.
    """
    complaints: list[str] = []
    values: dict[str, Any] = {name: spec.default for name, spec in SPECS.items()}

    def reset(name: str, reason: object) -> None:
        complaints.append(f"parameter {name} is refused ({reason}), using {SPECS[name].default!r}")
        if node.has_parameter(name):
            node.undeclare_parameter(name)
        # Declared again as never given: what the parameter services tell is then what runs.
        node.declare_parameter(
            name, SPECS[name].default, descriptor(SPECS[name], still_open=True), ignore_override=True
        )

    def refusal(candidates: dict[str, Any]) -> str:
        try:
            DepthNodeConfig.from_values({n: s.default for n, s in SPECS.items()} | candidates)
        except ValueError as error:
            return str(error)
        return ""

    paired = {name for pair in _PAIRS for name in pair}
    for name, spec in SPECS.items():
        try:
            value = node.declare_parameter(name, spec.default, descriptor(spec, still_open=True)).value
        # rclpy has a dozen exception types for "that value will not do".
        except Exception as error:
            reset(name, error)
            continue
        if name not in paired and (reason := refusal({name: value})):
            reset(name, reason)
        else:
            values[name] = value
    for pair in _PAIRS:
        if reason := refusal({name: values[name] for name in pair}):
            for name in pair:
                reset(name, reason)
                values[name] = SPECS[name].default
    for name, spec in SPECS.items():
        if not spec.dynamic:
            closed = descriptor(spec)
            closed.type = node.describe_parameter(name).type
            node.set_descriptor(name, closed)
    # rclpy keeps what was given but never declared in this attribute only.
    given = getattr(node, "_parameter_overrides", {})
    known = {*SPECS, "use_sim_time", "start_type_description_service"}
    unknown = [name for name in given if name not in known and not name.startswith("qos_overrides.")]
    complaints += [f"unknown parameter {name} is ignored; known are {', '.join(SPECS)}" for name in unknown]
    return DepthNodeConfig.from_values(values), complaints


def proposed(current: DepthNodeConfig, changes: list[Parameter]) -> DepthNodeConfig | SetParametersResult:
    """The configuration after a set of changes, or the refusal of all of them with the reason."""
    values = current.values | {change.name: change.value for change in changes if change.name in SPECS}
    try:
        return DepthNodeConfig.from_values(values)
    except ValueError as error:
        return SetParametersResult(successful=False, reason=str(error))
