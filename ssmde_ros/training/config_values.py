"""Nested mappings on their way to validated settings."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints


def number(value: Any) -> Any:
    """To YAML 1.1, and so to PyYAML, 1e-3 is text; to everybody else it is a number."""
    with suppress(ValueError):
        return float(value) if isinstance(value, str) and "e" in value.lower() else value
    return value


def check_values(kind: Any, values: Any, name: str) -> None:
    """Refuse by name what dacite lets pass (NaN, true for 1), or refuses without saying where it is."""
    if not isinstance(values, dict):
        raise ValueError(f"{name or 'it'} must be a mapping of keys, got {values!r}")
    for key, value in values.items():
        inner, wanted = f"{name}.{key}".lstrip("."), get_type_hints(kind).get(key)
        if wanted is None:
            raise ValueError(f"unknown key {inner}")
        if is_dataclass(wanted):
            check_values(wanted, value, inner)
        elif get_origin(wanted) is tuple:
            if not isinstance(value, list | tuple):
                raise ValueError(f"{inner} must be a list, got {value!r}")
            for place, item in enumerate(value if is_dataclass(get_args(wanted)[0]) else ()):
                check_values(get_args(wanted)[0], item, f"{inner}[{place}]")
        elif Path in (wanted, *get_args(wanted)) and not isinstance(value, (str, Path, *get_args(wanted))):
            raise ValueError(f"{inner} must be a path, got {value!r}")
        elif wanted in (int, float) and isinstance(value, bool):
            raise ValueError(f"{inner} must be a number, got {str(value).lower()}")
        elif wanted is float and isinstance(number(value), float) and not math.isfinite(number(value)):
            raise ValueError(f"{inner} must be finite, got {value}")


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Nested mappings laid over others; neither is changed."""
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result
