"""Exported files: what other runtimes run, with what they hold written inside."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args
from xml.etree import ElementTree

from ssmde_ros.networks import DepthNetConfig, WeightsError, WeightsInfo
from ssmde_ros.networks.identity import existing_file

Form = Literal["onnx", "openvino", "torchscript", "tensorrt"]
Precision = Literal["fp32", "fp16", "int8"]

SUFFIXES: dict[str, Form] = {".onnx": "onnx", ".xml": "openvino", ".ts": "torchscript", ".plan": "tensorrt"}
KEY = "ssmde_ros"  # under which each format keeps our metadata
_FORMAT = "ssmde-export-1"
_PLAN_MAGIC = b"ssmdeplan1"
_ONNX_METADATA = 14  # number of ModelProto.metadata_props; its entries hold key (1) and value (2)


@dataclass(frozen=True)
class Exported:
    """An exported file: what it says of itself, and its bytes.

    Attributes:
        info: path of the file, and identity, network and provenance of the weights it was made from.
        size: (height, width) of its images, pixels; None takes any multiple of 32.
        made_with: name and version of what wrote it, and of the GPU where it depends on one.
        content: of the file; of a `.plan` without our header.
        weights: of the `.bin` beside an `.xml`, else empty.
    """

    info: WeightsInfo
    form: Form
    precision: Precision
    size: tuple[int, int] | None
    made_with: str
    content: bytes = b""
    weights: bytes = b""


def to_text(exported: Exported) -> str:
    """The metadata as it is written into a file."""
    info = exported.info
    values = {
        "format": _FORMAT, "config": info.config.recorded(), "digest": info.digest, "provenance": info.provenance,
        "precision": exported.precision, "size": exported.size, "made_with": exported.made_with,
        "weights": hashlib.sha256(exported.weights).hexdigest(),
    }  # fmt: skip
    return json.dumps(values)


def is_exported(path: Path) -> bool:
    """Whether a name is that of an exported file."""
    return path.suffix in SUFFIXES


def reason(error: Exception) -> str:
    """The last line of what a library says; what kind of error it is where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


def read_exported(path: Path) -> Exported:
    """Read an exported file; no engine is made.

    Raises:
        WeightsError: missing or unreadable file, or one that this package did not write.
    """
    path = existing_file(path, "exported file", "write one with `ssmde export`")
    form = SUFFIXES[path.suffix]
    try:
        content, weights = path.read_bytes(), b""
        if form == "openvino":
            weights = path.with_suffix(".bin").read_bytes()
        text, content = _READERS[form](content)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, ElementTree.ParseError) as error:
        raise WeightsError(
            f"exported file {path} cannot be read ({reason(error)}); is it a whole {form} file?"
        ) from error
    if text is None:
        raise WeightsError(f"exported file {path} was not written by `ssmde export` (no {KEY!r} metadata)")
    try:
        exported = _parsed(path, form, json.loads(text))
        whole = hashlib.sha256(weights).hexdigest() == json.loads(text)["weights"]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"exported file {path} has unusable metadata: {error}") from error
    if not whole:
        raise WeightsError(f"{path.with_suffix('.bin')} does not belong to {path.name}: export it again")
    return replace(exported, content=content, weights=weights)


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


def _onnx_text(content: bytes) -> tuple[str | None, bytes]:
    # Read off the wire format: whoever runs the file need not have the package that writes it.
    for number, entry in _fields(content):
        if number == _ONNX_METADATA:
            parts = dict(_fields(entry))
            if parts.get(1) == KEY.encode():
                return parts.get(2, b"").decode(), content
    return None, content


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each field with a length in a protobuf message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            _, at = _varint(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise ValueError("it was cut off")
            yield tag >> 3, message[at : at + length]
            at += length
        else:
            raise ValueError("it is no protobuf message")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise ValueError("it was cut off")
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _openvino_text(content: bytes) -> tuple[str | None, bytes]:
    found = ElementTree.fromstring(content).find(f"rt_info/{KEY}")
    return (None if found is None else found.get("value")), content


def _torchscript_text(content: bytes) -> tuple[str | None, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        names = [name for name in file.namelist() if name.endswith(f"/extra/{KEY}")]
        return (file.read(names[0]).decode() if names else None), content


def plan_header(text: str) -> bytes:
    """What stands before the engine in a `.plan` file: ten letters, the length of the text (uint64, little endian), the text."""
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


_READERS: dict[Form, Callable[[bytes], tuple[str | None, bytes]]] = {
    "onnx": _onnx_text, "openvino": _openvino_text, "torchscript": _torchscript_text, "tensorrt": split_plan,
}  # fmt: skip
