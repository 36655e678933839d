"""Nested settings as ROS parameters: `train.loss.gamma`."""

from __future__ import annotations

from typing import Any


def flattened(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted name."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= flattened(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """The reverse of `flattened`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        *folders, leaf = name.split(".")
        place = found
        for folder in folders:
            place = place.setdefault(folder, {})
        place[leaf] = list(value) if not isinstance(value, str | bool | int | float) else value
    return found
