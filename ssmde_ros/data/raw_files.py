"""Bag files from front to back, without their index: what is whole is given, what is not is counted."""

from __future__ import annotations

import bz2
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import lz4.frame
from mcap.exceptions import McapError
from mcap.records import Channel, Chunk, McapRecord, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk

_MCAP_ERRORS = (McapError, ValueError, KeyError, EOFError, struct.error, UnicodeDecodeError, RuntimeError, OSError)
_ROWS = 16  # of a sqlite table held in memory at once
_LAST_ROW = 2**40


@dataclass
class Damage:
    """What could not be read.

    Attributes:
        notes: one line each, naming the file and what is wrong with it.
        lost: messages, or whole chunks of them, that were seen and had to be skipped. What a truncated file has
            lost beyond its end nobody knows.
    """

    notes: list[str] = field(default_factory=list)
    lost: int = 0

    def note(self, line: str) -> None:
        """Remember a line, once."""
        if line not in self.notes:
            self.notes.append(line)

    def __str__(self) -> str:
        return "; ".join(self.notes) + (f"; {self.lost} messages or chunks skipped" if self.lost else "")


@dataclass(frozen=True)
class Raw:
    """One message as it lies in the file.

    Attributes:
        stamp: recording time, nanoseconds.
        data: serialised, CDR for ROS 2.
    """

    topic: str
    msgtype: str
    stamp: int
    data: bytes


def read_mcap(file: Path, damage: Damage) -> Iterator[Raw]:
    """Messages of an mcap file up to where its records break off; chunks that do not unpack are skipped."""
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    with file.open("rb") as stream:
        records = StreamReader(stream, emit_chunks=True, record_size_limit=2**30).records
        while True:
            try:
                record = next(records)
            except StopIteration:
                return
            except _MCAP_ERRORS as error:
                damage.note(f"{file.name} breaks off at byte {stream.tell()} ({type(error).__name__})")
                return
            parts: list[McapRecord] = [record]
            if isinstance(record, Chunk):
                try:
                    parts = breakup_chunk(record, validate_crc=True)
                # lz4 and zstandard have error types of their own, below RuntimeError or Exception.
                except Exception as error:
                    damage.lost += 1
                    damage.note(f"{file.name} has a chunk that cannot be unpacked ({type(error).__name__})")
                    continue
            for part in parts:
                if isinstance(part, Schema):
                    schemas[part.id] = part
                elif isinstance(part, Channel):
                    channels[part.id] = part
                elif isinstance(part, Message):
                    channel = channels.get(part.channel_id)
                    schema = schemas.get(channel.schema_id) if channel else None
                    if channel is None or schema is None:
                        damage.lost += 1
                        continue
                    yield Raw(channel.topic, schema.name, part.log_time, part.data)


def read_sqlite(file: Path, damage: Damage) -> Iterator[Raw]:
    """Messages of a sqlite3 file; rows on damaged pages are skipped."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as base:
        base.text_factory = lambda raw: raw.decode("utf-8", "replace")
        # The file is opened for reading only; this merely lets SQLite look at one that ends before its header says.
        base.execute("PRAGMA writable_schema = ON")
        try:
            topics = {row[0]: (row[1], row[2]) for row in base.execute("SELECT id, name, type FROM topics")}
        except sqlite3.DatabaseError as error:
            damage.note(f"{file.name} has no readable list of topics ({error})")
            return
        row = 1
        while row < _LAST_ROW:
            rows = _rows(base, row)
            if rows == []:
                return
            if rows is None:
                good = _next_readable(base, row)
                damage.note(f"{file.name} has damaged rows from number {row} on")
                damage.lost += 0 if good is None else good - row
                row = _LAST_ROW if good is None else good
                continue
            for number, topic_id, stamp, data in rows:
                row = number + 1
                if topic_id in topics and isinstance(data, bytes) and isinstance(stamp, int):
                    yield Raw(*topics[topic_id], stamp, data)


def _rows(base: sqlite3.Connection, first: int) -> list[tuple[int, int, int, bytes]] | None:
    """Some rows from number `first` on, none at the end of the table; None when the very first cannot be read."""
    query = "SELECT id, topic_id, timestamp, data FROM messages WHERE id >= ? ORDER BY id LIMIT ?"
    for limit in (_ROWS, 1):
        try:
            return base.execute(query, (first, limit)).fetchall()
        except sqlite3.DatabaseError:
            continue
    return None


def _next_readable(base: sqlite3.Connection, bad: int) -> int | None:
    """The next number after `bad` from which rows can be read: searched in growing steps, then by halving."""
    step = 1
    while bad + step < _LAST_ROW:
        if _rows(base, bad + step):
            low, high = bad + step // 2, bad + step  # the first cannot be read, the second can
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (low, middle) if _rows(base, middle) else (middle, high)
            return high
        step *= 2
    return None


def read_ros1(file: Path, damage: Damage) -> Iterator[Raw]:
    """Messages of a ROS 1 bag (format 2.0, wiki.ros.org/Bags/Format/2.0), whether its index was written or not."""
    topics: dict[bytes, tuple[str, str]] = {}
    with file.open("rb") as stream:
        if not stream.readline().startswith(b"#ROSBAG V2"):
            damage.note(f"{file.name} is no ROS 1 bag of format 2.0")
            return
        while True:
            try:
                record = _ros1_record(stream)
            except (ValueError, struct.error):
                damage.note(f"{file.name} breaks off at byte {stream.tell()}")
                return
            if record is None:
                return
            header, data = record
            if header.get(b"op") != b"\x05":  # only chunks hold messages; the rest is index
                continue
            try:
                yield from _ros1_chunk(_ros1_unpacked(header, data), topics)
            # bz2, lz4 and a parser running into garbage: whatever they say, this chunk is lost and the next may not be.
            except (ValueError, RuntimeError, OSError, EOFError, KeyError, struct.error) as error:
                damage.lost += 1
                damage.note(f"{file.name} has a chunk that cannot be unpacked ({type(error).__name__})")


def _ros1_record(stream: BinaryIO) -> tuple[dict[bytes, bytes], bytes] | None:
    """Header fields and data of the next record; None at the end."""
    head = stream.read(4)
    if not head:
        return None
    fields = _ros1_fields(_exactly(stream, struct.unpack("<I", head)[0]))
    return fields, _exactly(stream, struct.unpack("<I", _exactly(stream, 4))[0])


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise ValueError("the file ends in the middle of a record")
    return data


def _ros1_fields(data: bytes) -> dict[bytes, bytes]:
    fields, at = {}, 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        name, separator, value = data[at + 4 : at + 4 + size].partition(b"=")
        if not separator:
            raise ValueError("a record header without a name")
        fields[name] = value
        at += 4 + size
    return fields


def _ros1_unpacked(header: dict[bytes, bytes], data: bytes) -> bytes:
    unpack: dict[bytes, Callable[[bytes], bytes]] = {
        b"none": bytes, b"bz2": bz2.decompress, b"lz4": lz4.frame.decompress,
    }  # fmt: skip
    return unpack[header[b"compression"]](data)


def _ros1_chunk(chunk: bytes, topics: dict[bytes, tuple[str, str]]) -> Iterator[Raw]:
    at = 0
    while at < len(chunk):
        (size,) = struct.unpack_from("<I", chunk, at)
        header = _ros1_fields(chunk[at + 4 : at + 4 + size])
        at += 4 + size
        (size,) = struct.unpack_from("<I", chunk, at)
        data = chunk[at + 4 : at + 4 + size]
        at += 4 + size
        if header[b"op"] == b"\x07":
            inner = _ros1_fields(data)
            msgtype = inner[b"type"].decode().replace("/", "/msg/")
            topics[header[b"conn"]] = (header.get(b"topic", inner.get(b"topic", b"")).decode(), msgtype)
        elif header[b"op"] == b"\x02" and header[b"conn"] in topics:
            seconds, nanoseconds = struct.unpack("<II", header[b"time"])
            yield Raw(*topics[header[b"conn"]], seconds * 1_000_000_000 + nanoseconds, data)
