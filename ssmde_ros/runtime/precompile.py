"""Compiles engines into the cache in a process of its own: the Python of a compiler would hold up the frames that flow here.

`python -m ssmde_ros.runtime.precompile` is what `precompile` starts.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event
from typing import IO

import ssmde_ros
from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import WeightsError, WeightsInfo
from ssmde_ros.runtime.create import create_engine, to_compile
from ssmde_ros.runtime.engines import EngineConfig

_log = logging.getLogger(__name__)

_NICE = 10  # whoever has frames to answer goes first
_LOOK_EVERY = 0.1  # seconds
_REFUSED, _LATER = 3, 4  # exit codes: the weights are unusable; an engine is, and who makes it next says why


def precompile(weights: WeightsInfo, sizes: Sequence[tuple[int, int]], config: EngineConfig, stop: Event) -> None:
    """Leave the engines of a weight file in the cache; returns when they are there, or when that failed.

    A failure to compile is no error here: who loads the weights next compiles them, or says why that cannot be.

    Args:
        sizes: (height, width) of the images, pixels, multiples of 32.
        stop: ends the compiling.

    Raises:
        WeightsError: the network that they describe does not take the weights.
        SsmdeError: a device that there is not.
    """
    if stop.is_set() or not any(to_compile(weights.config, size, config, weights.digest) for size in sizes):
        return
    job = json.dumps({"weights": str(weights.path.resolve()), "sizes": list(sizes), "engine": asdict(config)})
    with tempfile.TemporaryFile("w+") as said:
        try:
            code = _run([sys.executable, "-m", __name__, job], said, stop)
        except OSError as error:
            _log.warning("no process to compile in: %s: compiling among the frames", error.strerror)
            return
        if code in (0, _LATER) or stop.is_set():
            return
        said.seek(0)
        why = (said.read().strip().splitlines() or [f"exit code {code}"])[-1]
        if code == _REFUSED:
            raise WeightsError(why)
        _log.warning("compiling in a process of its own failed: %s: compiling among the frames", why)


def _run(command: list[str], said: IO[str], stop: Event) -> int:
    """Exit code of a command, killed when it is told to stop."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
        cwd=Path(ssmde_ros.__file__).parents[1],  # whose code is run: ours, whatever lies in the current folder
        start_new_session=True,  # Ctrl-C is for the node, which stops this one
    ) as process:
        while process.poll() is None:
            if stop.wait(_LOOK_EVERY):
                process.kill()
                break
    return process.returncode


def main() -> None:
    """Compile what the argument describes."""
    os.nice(_NICE)
    import torch

    from ssmde_ros.networks import load_depth_net

    torch.set_num_threads(1)
    job = json.loads(sys.argv[1])
    try:
        net, info = load_depth_net(Path(job["weights"]))
        config = EngineConfig(**job["engine"])
        for height, width in job["sizes"]:
            for name in to_compile(info.config, (height, width), config, info.digest):
                create_engine(net, (height, width), replace(config, name=name), info.digest)
    except WeightsError as error:
        print(error, file=sys.stderr)
        sys.exit(_REFUSED)
    except SsmdeError:
        sys.exit(_LATER)


if __name__ == "__main__":
    main()
