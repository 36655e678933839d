"""What can still be read of a damaged bag: every message that is whole, and a count of what is lost.

A robot that loses power leaves a bag without its index; a failing card leaves garbage in the middle. Readers that
trust the index give up on both. These walk through the file itself.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zstandard
from rosbags.typesys import Stores, get_typestore
from tqdm import tqdm

from ssmde_ros.data.raw_files import Damage, Raw, read_mcap, read_ros1, read_sqlite

_ZSTD = b"\x28\xb5\x2f\xfd"  # magic number of a Zstandard frame; CDR begins with 00 0x 00 00
STORAGE_SUFFIXES = (".mcap", ".db3", ".bag", ".mcap.zstd", ".db3.zstd")


class SalvagedBag:
    """A damaged bag, read file by file from front to back.

    Attributes:
        counts: readable messages by (topic, message type).
        first, last: recording times of the first and last message, nanoseconds; 0 when there is none.
    """

    def __init__(self, path: Path, damage: Damage) -> None:
        self.damage, self._space = damage, tempfile.TemporaryDirectory(prefix="ssmde-salvage-")
        self._ros1 = path.suffix == ".bag"
        self._store = get_typestore(Stores.ROS1_NOETIC if self._ros1 else Stores.ROS2_HUMBLE)
        self._files = [self._plain(file) for file in storage_files(path)]
        self.counts: dict[tuple[str, str], int] = {}
        self.first = self.last = 0
        for raw in tqdm(self._raw(), desc=f"salvaging {path.name}", unit="message", disable=None, delay=2.0):
            key = raw.topic, raw.msgtype
            self.counts[key] = self.counts.get(key, 0) + 1
            self.first = min(self.first or raw.stamp, raw.stamp)
            self.last = max(self.last, raw.stamp)
        self._counting = Damage()  # the damage is counted once, not at each pass

    def close(self) -> None:
        """Remove what was unpacked."""
        self._space.cleanup()

    def messages(self, topic: str, start: int | None = None, stop: int | None = None) -> Iterator[tuple[int, Any]]:
        """Recording time (nanoseconds) and message, in the order of the file, of those that deserialise."""
        self.damage, damage = self._counting, self.damage
        try:
            for raw in self._raw():
                if raw.topic != topic or (start is not None and raw.stamp < start):
                    continue
                if stop is not None and raw.stamp >= stop:
                    continue
                message = self._message(raw, damage)
                if message is not None:
                    yield raw.stamp, message
        finally:
            self.damage = damage

    def _message(self, raw: Raw, damage: Damage) -> Any:
        try:
            if self._ros1:
                return self._store.deserialize_ros1(raw.data, raw.msgtype)
            data = zstandard.decompress(raw.data) if raw.data[:4] == _ZSTD else raw.data
            return self._store.deserialize_cdr(data, raw.msgtype)
        # rosbags compiles a parser per type; over garbage it fails in as many ways as there are types.
        except Exception as error:
            damage.lost += 1
            damage.note(f"{raw.topic} holds a message that cannot be parsed ({type(error).__name__})")
            return None

    def _plain(self, file: Path) -> Path:
        """The file itself, or what can be unpacked of it."""
        if file.suffix != ".zstd":
            return file
        unpacked = Path(self._space.name, file.stem)
        with file.open("rb") as packed, unpacked.open("wb") as plain:
            try:
                zstandard.ZstdDecompressor().copy_stream(packed, plain)
            except zstandard.ZstdError as error:
                self.damage.note(f"{file.name} breaks off while it is unpacked ({error})")
        return unpacked

    def _raw(self) -> Iterator[Raw]:
        readers: dict[str, Callable[[Path, Damage], Iterator[Raw]]] = {
            ".mcap": read_mcap, ".db3": read_sqlite, ".bag": read_ros1,
        }  # fmt: skip
        for file in self._files:
            yield from readers[file.suffix](file, self.damage)


def storage_files(path: Path) -> list[Path]:
    """The storage files of a bag, in order of their numbers."""
    if path.is_file():
        return [path]
    files = [f for f in path.iterdir() if f.name.endswith(STORAGE_SUFFIXES)]
    return sorted(files, key=lambda f: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", f.name)])
