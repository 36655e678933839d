"""Compiled engines on disk: to compile one takes seconds of Python, to read it back a fraction of one.

A file is named after everything that it depends on, and begins with a checksum of the rest; one that does not match is
compiled anew, not trusted. They lie under `$XDG_CACHE_HOME/ssmde_ros/engines` (`~/.cache` where that is not set).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from pathlib import Path

import ssmde_ros
from ssmde_ros.files import whole_file

_log = logging.getLogger(__name__)

_KEPT = 32  # files; the ones longest not used go first
_CHECKSUM = 32  # bytes


def cache_folder() -> Path | None:
    """Where engines are kept; may not exist yet. None for a user without a home."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # As the XDG specification has it: relative paths are to be ignored.
    if not Path(base).is_absolute():
        try:
            base = str(Path.home() / ".cache")
        except RuntimeError:
            return None
    return Path(base) / "ssmde_ros" / "engines"


def engine_path(digest: str, size: tuple[int, int], *made_by: object) -> Path | None:
    """The file of an engine; None where none can be kept.

    Args:
        digest: identity of the weights.
        size: (height, width), pixels.
        made_by: everything else that the bytes depend on: library, version, processor, precision, threads.
    """
    folder = cache_folder()
    if folder is None or not digest:
        return None
    rest = hashlib.sha256("\n".join([_CODE, *map(str, made_by)]).encode()).hexdigest()[:16]
    return folder / f"{digest}-{size[1]}x{size[0]}-{rest}.engine"


def read_engine(path: Path) -> bytes | None:
    """What `write_engine` wrote; None where there is nothing, or nothing whole."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("engine cache %s cannot be used: %s: compiling", path, error.strerror)
        return None
    checksum, engine = content[:_CHECKSUM], content[_CHECKSUM:]
    if hashlib.sha256(engine).digest() != checksum:
        _log.warning("engine cache %s is damaged: compiling anew", path)
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # used now; where that may not be said, it may go sooner
    return engine


def write_engine(path: Path, engine: bytes) -> None:
    """Keep an engine; a disk that refuses costs nothing but the next start."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(hashlib.sha256(engine).digest())
            file.write(engine)
        _prune(path.parent)
    except OSError as error:
        _log.warning("compiled engine not kept in %s: %s: the next start compiles again", path.parent, error.strerror)


def _prune(folder: Path) -> None:
    ages = {}
    for path in folder.glob("*.engine"):
        with contextlib.suppress(FileNotFoundError):  # another process prunes too
            ages[path] = path.stat().st_mtime
    for path in sorted(ages, key=lambda path: ages[path], reverse=True)[_KEPT:]:
        path.unlink(missing_ok=True)


def _code() -> str:
    """Of the networks and engines: another release may compute another graph from the same weights."""
    package = Path(ssmde_ros.__file__).parent
    engines = ("onnx_export", "openvino_engine", "tensorrt_engine", "torch_engine")
    runtime = [package / "runtime" / f"{name}.py" for name in ("live_net", "makers", "sub_pixel", *engines)]
    files = [*sorted((package / "networks").glob("*.py")), *runtime]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


# Read once, and as early as the code itself: what is changed on the disk later is not what runs.
_CODE = _code()
