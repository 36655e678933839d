"""Exported files: what other runtimes run, with what they hold written inside."""

from __future__ import annotations

import json
import struct
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args
from xml.etree import ElementTree

from ssmde_ros.networks import DepthNetConfig, WeightsError, WeightsInfo
from ssmde_ros.networks.weights import existing_file

Form = Literal["onnx", "openvino", "torchscript", "tensorrt"]
Precision = Literal["fp32", "fp16", "int8"]

SUFFIXES: dict[str, Form] = {".onnx": "onnx", ".xml": "openvino", ".ts": "torchscript", ".plan": "tensorrt"}
KEY = "ssmde_ros"  # under which each format keeps our metadata
_FORMAT = "ssmde-export-1"
_PLAN_MAGIC = b"ssmdeplan1"


@dataclass(frozen=True)
class Exported:
    """What an exported file says of itself.

    Attributes:
        info: path of the file, and identity, network and provenance of the weights it was made from.
        size: (height, width) of its images, pixels; None takes any multiple of 32.
        made_with: name and version of what wrote it, and of the GPU where it depends on one.
    """

    info: WeightsInfo
    form: Form
    precision: Precision
    size: tuple[int, int] | None
    made_with: str


def to_text(exported: Exported) -> str:
    """The metadata as it is written into a file."""
    info = exported.info
    values = {
        "format": _FORMAT, "config": info.config.recorded(), "digest": info.digest, "provenance": info.provenance,
        "precision": exported.precision, "size": exported.size, "made_with": exported.made_with,
    }  # fmt: skip
    return json.dumps(values)


def is_exported(path: Path) -> bool:
    """Whether a name is that of an exported file."""
    return path.suffix in SUFFIXES


def read_exported(path: Path) -> Exported:
    """What an exported file says of itself; no engine is made.

    Raises:
        WeightsError: missing or unreadable file, or one that this package did not write.
    """
    path = existing_file(path, "exported file", "write one with `ssmde export`")
    form = SUFFIXES[path.suffix]
    try:
        text = _READERS[form](path)
    except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, ElementTree.ParseError) as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise WeightsError(f"exported file {path} cannot be read ({reason[0]}); is it a whole {form} file?") from error
    if text is None:
        raise WeightsError(f"exported file {path} was not written by `ssmde export` (no {KEY!r} metadata)")
    try:
        return _parsed(path, form, json.loads(text))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"exported file {path} has unusable metadata: {error}") from error


def _parsed(path: Path, form: Form, values: dict[str, Any]) -> Exported:
    if values["format"] != _FORMAT:
        raise ValueError(f"format {values['format']!r} instead of {_FORMAT!r}")
    config = DepthNetConfig(**{**values["config"], "widths": tuple(values["config"]["widths"])})
    precision, size = values["precision"], values["size"]
    if precision not in get_args(Precision):
        raise ValueError(f"precision {precision!r}")
    if size is not None:
        height, width = size
        # Then this is the size it was made for, whatever the weights were trained at.
        size, config = (height, width), replace(config, input_width=width, input_height=height)
    info = WeightsInfo(path, str(values["digest"]), config, dict(values["provenance"]))
    return Exported(info, form, precision, size, str(values["made_with"]))


def _onnx_text(path: Path) -> str | None:
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own errors have no common name
        raise ValueError(str(error) or type(error).__name__) from error
    return next((entry.value for entry in model.metadata_props if entry.key == KEY), None)


def _openvino_text(path: Path) -> str | None:
    if not path.with_suffix(".bin").is_file():
        raise ValueError(f"{path.with_suffix('.bin').name}, which belongs to it, is missing")
    found = ElementTree.parse(path).find(f"rt_info/{KEY}")
    return None if found is None else found.get("value")


def _torchscript_text(path: Path) -> str | None:
    with zipfile.ZipFile(path) as file:
        names = [name for name in file.namelist() if name.endswith(f"/extra/{KEY}")]
        return file.read(names[0]).decode() if names else None


def plan_header(text: str) -> bytes:
    """What stands before the engine in a `.plan` file."""
    data = text.encode()
    return _PLAN_MAGIC + struct.pack("<Q", len(data)) + data


def split_plan(content: bytes) -> tuple[str, bytes]:
    """Metadata and TensorRT engine of a `.plan` file.

    Raises:
        ValueError: another kind of file, or one that was cut off.
    """
    start = len(_PLAN_MAGIC) + 8
    if content[: len(_PLAN_MAGIC)] != _PLAN_MAGIC or len(content) < start:
        raise ValueError("it does not begin as `ssmde export` writes it")
    length = struct.unpack("<Q", content[len(_PLAN_MAGIC) : start])[0]
    if len(content) <= start + length:
        raise ValueError("it was cut off")
    return content[start : start + length].decode(), content[start + length :]


def _tensorrt_text(path: Path) -> str:
    return split_plan(path.read_bytes())[0]


_READERS = {
    "onnx": _onnx_text, "openvino": _openvino_text, "torchscript": _torchscript_text, "tensorrt": _tensorrt_text,
}  # fmt: skip
