"""Compiles engines into the cache in a process of its own: the Python of a compiler would hold up the frames that flow here.

`python -m ssmde_ros.runtime.precompile` is what `precompile` starts.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from threading import Event

import torch

from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import load_depth_net
from ssmde_ros.runtime.engines import EngineConfig, create_engine, is_compiled

_log = logging.getLogger(__name__)

_NICE = 10  # as the trainer: whoever has frames to answer goes first
_LOOK_EVERY = 0.1  # seconds
_REFUSED = 3  # exit code: whoever loads the weights next says why


def precompile(weights: Path, sizes: Sequence[tuple[int, int]], config: EngineConfig, stop: Event) -> None:
    """Leave the engines of a weight file in the cache; returns when they are there, or when that failed.

    A failure is no error here: who loads the weights next meets it again, and says it better.

    Args:
        weights: a file that holds a network.
        sizes: (height, width) of the images, pixels, multiples of 32.
        stop: ends the compiling.

    Raises:
        WeightsError: it holds none.
    """
    _, info = load_depth_net(weights)
    if all(is_compiled(size, config, info.digest) for size in sizes):
        return
    job = json.dumps({"weights": str(weights), "sizes": list(sizes), "engine": asdict(config)})
    quiet = subprocess.DEVNULL
    with subprocess.Popen([sys.executable, "-m", __name__, job], stdin=quiet, stdout=quiet, stderr=quiet) as process:
        while process.poll() is None:
            if stop.wait(_LOOK_EVERY):
                process.terminate()
    if process.returncode not in (0, _REFUSED) and not stop.is_set():
        _log.warning("compiling beside the frames ended with exit code %d: compiling among them", process.returncode)


def main() -> None:
    """Compile what the argument describes."""
    os.nice(_NICE)
    torch.set_num_threads(1)
    job = json.loads(sys.argv[1])
    try:
        net, info = load_depth_net(Path(job["weights"]))
        for height, width in job["sizes"]:
            create_engine(net, (height, width), EngineConfig(**job["engine"]), info.digest)
    except SsmdeError:
        sys.exit(_REFUSED)


if __name__ == "__main__":
    main()
