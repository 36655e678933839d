"""Generations of a student: each in a folder of its own, one of them promoted, none ever half written.

OUT/generations/0001/student.safetensors   the network
                     teacher.safetensors   what it learned from
                     config.yaml           how it was trained
                     metrics.json          how it was judged
                     report.md, *.png      the same for people
                     generation.json       parent, state, reason
OUT/generations/promoted                   number of the generation in use
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from ssmde_ros.errors import SsmdeError
from ssmde_ros.files import whole_file
from ssmde_ros.networks import WeightsError

State = Literal["promoted", "rejected", "retired"]

FOLDER = "generations"
STUDENT, TEACHER, RECORD, POINTER = "student.safetensors", "teacher.safetensors", "generation.json", "promoted"


_BACK = "rolled back; "


class GenerationError(SsmdeError):
    """A generation that is not there, or cannot be used."""


@dataclass(frozen=True)
class Generation:
    """One generation.

    Attributes:
        number: from 1.
        parent: what it was trained from: the identity of the weights, and `parent_number` when it is a generation of
            this folder.
        state: "promoted" was better than its parent when judged; "rejected" was not; "retired" was rolled back.
        reason: why, in words.
        created: ISO 8601, UTC.
        identity: digest of its weights.
        gain: relative fall of the error it was judged by.
    """

    number: int
    parent: str
    parent_number: int | None
    state: State
    reason: str
    created: str
    identity: str
    gain: float

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.number:04d}"


class Generations:
    """The generations under one output folder."""

    def __init__(self, out: Path) -> None:
        self.root = out if out.name == FOLDER else out / FOLDER

    def folder(self, number: int) -> Path:
        """Where generation `number` lies."""
        return self.root / f"{number:04d}"

    def all(self) -> list[Generation]:
        """Every whole generation, the oldest first."""
        records = sorted(self.root.glob(f"[0-9]*/{RECORD}"))
        return [self._read(path) for path in records if path.parent.name.isdigit()]

    def get(self, number: int) -> Generation:
        """Generation `number`. Raises GenerationError when there is none."""
        path = self.folder(number) / RECORD
        if not path.is_file():
            known = ", ".join(each.name for each in self.all()) or "none"
            raise GenerationError(f"{self.root} has no generation {number:04d}; it has {known}")
        return self._read(path)

    def _read(self, path: Path) -> Generation:
        try:
            return Generation(**json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise GenerationError(f"{path} cannot be read: {' '.join(str(error).split())}") from error

    @property
    def current(self) -> Generation | None:
        """The promoted generation; None when there is none yet."""
        try:
            text = (self.root / POINTER).read_text("utf-8").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise GenerationError(f"{self.root / POINTER} cannot be read: {error}") from error
        if not text.isdigit():
            raise GenerationError(f"{self.root / POINTER} holds {text!r}, not the number of a generation")
        return self.get(int(text)) if int(text) else None

    def weights(self, generation: Generation) -> Path:
        """The student's weights file."""
        return self.folder(generation.number) / STUDENT

    def latest_weights(self) -> Path | None:
        """Weights of the promoted generation; None when there is none yet."""
        current = self.current
        return self.weights(current) if current is not None else None

    def next_number(self) -> int:
        """The number a new generation gets: above every folder there is, whole or half deleted."""
        return max((int(each.name) for each in self.root.glob("[0-9]*") if each.name.isdigit()), default=0) + 1

    def add(self, generation: Generation, write: Callable[[Path], None]) -> Path:
        """Write a new generation: `write` fills a temporary folder, which is then renamed. Promotes when it says so.

        Raises:
            GenerationError: the number is taken, or the disk refuses; nothing half written is left.
        """
        target = self.folder(generation.number)
        if target.exists():
            raise GenerationError(f"generation {target} exists already")
        partial = self.root / f".{generation.name}.partial"
        try:
            shutil.rmtree(partial, ignore_errors=True)  # of one that was killed while it wrote
            partial.mkdir(parents=True)
            write(partial)
            (partial / RECORD).write_text(json.dumps(asdict(generation), indent=2) + "\n", "utf-8")
            _settle(partial)
            partial.replace(target)
        except OSError as error:
            raise GenerationError(f"generation {target} cannot be written: {error}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        if generation.state == "promoted":
            self._point_to(generation.number)
        return target

    def promote(self, number: int) -> Generation:
        """Put a generation to use, whatever it was judged.

        Raises:
            GenerationError: there is none, or its weights cannot be loaded.
        """
        from ssmde_ros.networks import (
            load_depth_net,  # imports torch, which who only follows what is promoted does without
        )

        generation = self.get(number)
        try:
            load_depth_net(self.weights(generation))
        except WeightsError as error:
            raise GenerationError(f"generation {generation.name} is not promoted: {error}") from error
        self._point_to(number)
        return self._note(generation, "promoted", generation.reason)

    def rollback(self) -> Generation | None:
        """Go back to the parent of the promoted generation.

        Returns:
            The generation in use from now on; None when the parent is none of this folder: then it is the shipped student.

        Raises:
            GenerationError: nothing is promoted.
        """
        current = self.current
        if current is None:
            raise GenerationError(f"{self.root} has no promoted generation to roll back")
        parent = None if current.parent_number is None else self.get(current.parent_number)
        # Noted first: killed in between, the same command does the rest.
        self._note(current, "retired", _BACK + current.reason.removeprefix(_BACK))
        self._point_to(0 if parent is None else parent.number)
        return parent

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process at a time trains into a folder.

        Raises:
            GenerationError: another one does.
        """
        self.root.parent.mkdir(parents=True, exist_ok=True)
        with (self.root.parent / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise GenerationError(
                    f"another training is writing to {self.root.parent}; give this one another folder (out)"
                ) from error
            yield

    def finish(self, number: int) -> None:
        """Do what a process that was killed right after writing generation `number` had left to do: point to it.

        Not when something else was promoted or rolled back since.
        """
        generation, current = self.get(number), self.current
        unchanged = (current.number if current is not None else None) == generation.parent_number
        if generation.state == "promoted" and unchanged:
            self._point_to(number)

    def prune(self, keep: int = 0) -> list[Generation]:
        """Delete rejected and retired generations, but the last `keep` of them, and whatever one that stays descends from."""
        by_number = {g.number: g for g in self.all()}
        needed: set[int] = set()

        def spare(generation: Generation | None) -> None:
            while generation is not None and generation.number not in needed:
                needed.add(generation.number)
                generation = by_number.get(generation.parent_number or 0)

        spare(self.current)
        useless = [g for g in by_number.values() if g.number not in needed and g.state != "promoted"]
        for generation in useless[max(0, len(useless) - keep) :]:
            spare(generation)
        gone = [g for g in useless if g.number not in needed]
        for generation in gone:
            # The record goes first: a folder without one is no generation any more, however far the deletion gets.
            (self.folder(generation.number) / RECORD).unlink()
            shutil.rmtree(self.folder(generation.number), ignore_errors=True)
        return gone

    def _note(self, generation: Generation, state: State, reason: str) -> Generation:
        changed = replace(generation, state=state, reason=reason)
        _write(self.folder(generation.number) / RECORD, json.dumps(asdict(changed), indent=2) + "\n")
        return changed

    def _point_to(self, number: int) -> None:
        _write(self.root / POINTER, f"{number:04d}\n")


def new_generation(number: int, parent: str, parent_number: int | None, **judged: Any) -> Generation:
    """A generation of this moment."""
    return Generation(
        number, parent, parent_number, created=datetime.now(timezone.utc).isoformat("T", "seconds"), **judged
    )


def _write(path: Path, text: str) -> None:
    try:
        with whole_file(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise GenerationError(f"{path} cannot be written: {error}") from error


def _settle(folder: Path) -> None:
    """Have the files on the disk before the folder gets its name: a rename must not overtake what it names."""
    for file in folder.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
