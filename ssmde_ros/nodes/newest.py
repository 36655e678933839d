"""A mailbox that keeps only the newest item: latency never queues up."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Newest(Generic[Item]):
    """Hands the newest item from the executor's thread to the worker's.

    Attributes:
        dropped: how many items were overwritten before anybody took them.
    """

    def __init__(self) -> None:
        self._item: Item | None = None
        self._changed = threading.Condition()
        self.dropped = 0

    def put(self, item: Item) -> None:
        """Store an item, dropping the one that waits."""
        with self._changed:
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify()

    def take(self, timeout: float) -> Item | None:
        """The waiting item, or None after `timeout` seconds."""
        with self._changed:
            if self._item is None:
                self._changed.wait(timeout)
            item, self._item = self._item, None
            return item
