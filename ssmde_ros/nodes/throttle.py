"""Says each problem at once, and the same problem again only after a while."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

_KEPT = 64  # different problems remembered


class Throttle:
    """rclpy throttles per line of code, so that one problem would silence the next; this one goes by the text.

    Numbers do not make a problem a new one: "3 bytes of 9" and "4 bytes of 9" are the same.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._said: dict[str, float] = {}

    def __call__(self, log: Callable[[str], object], text: str) -> None:
        """Log the text unless the same was logged less than `seconds` ago."""
        key, now = re.sub(r"\d+", "#", text), time.monotonic()
        if now - self._said.get(key, -self._seconds) < self._seconds:
            return
        if len(self._said) >= _KEPT:
            self._said.clear()
        self._said[key] = now
        log(text)
