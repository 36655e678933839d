"""Makes engines from networks; measures which one is the fastest where nobody says which."""

from __future__ import annotations

import logging
import os
import platform
import re
import statistics
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import DepthNetConfig, WeightsError
from ssmde_ros.runtime.engine_cache import engine_path, read_engine, write_engine
from ssmde_ros.runtime.engines import Engine, EngineConfig, EngineName, resolve_device, warm_up
from ssmde_ros.runtime.exported import reason
from ssmde_ros.runtime.makers import MAKERS, Target, versions

if TYPE_CHECKING:
    from ssmde_ros.networks import DepthNet
    from ssmde_ros.runtime.makers import Build

log = logging.getLogger(__name__)

_MEASURED_FOR = 0.25  # seconds, each engine
# What libraries raise that are broken, of another version, or out of memory; import errors are for those half installed.
_FAILURES = (
    RuntimeError, ImportError, AttributeError, OSError, ValueError, TypeError, MemoryError, AssertionError, LookupError
)  # fmt: skip
_AGREE = 0.05  # mean relative difference of depth; sixteen bits cost a hundredth


def create_engine(net: DepthNet, size: tuple[int, int], config: EngineConfig, digest: str = "") -> Engine:
    """Compile a network for images of `size` (height, width; multiples of 32) and warm it up.

    Args:
        digest: identity of the weights, under which the compiled engine is kept on disk; empty keeps nothing.

    Raises:
        SsmdeError: the engine asked for is not installed, or cannot run on that device.
    """
    return create_engine_from(lambda: net, net.config, size, config, digest)


def create_engine_from(
    build: Build, shape: DepthNetConfig, size: tuple[int, int], config: EngineConfig, digest: str
) -> Engine:
    """The same of a network that need not be built where the cache has the engine.

    Args:
        build: the network; what it raises comes through.
        shape: its configuration.
    """
    target = Target(shape, size, _device(config), config, digest)
    return _fastest(build, target) if config.name == "auto" else _made(config.name, build, target)


def to_compile(shape: DepthNetConfig, size: tuple[int, int], config: EngineConfig, digest: str) -> list[EngineName]:
    """The engines that `create_engine` would have to compile; empty when the cache has them, or none is needed.

    Raises:
        SsmdeError: see `resolve_device`.
    """
    target = Target(shape, size, _device(config), config, digest)
    wanted = [config.name]
    if config.name == "auto":
        names = _candidates(target)
        known = _remembered(target, names)
        wanted = [known] if known else names
    missing = []
    for name in wanted:
        if not (MAKERS[name].installed() and MAKERS[name].runs_on(target)):
            continue
        try:
            path = MAKERS[name].file(target)
        except _FAILURES as error:  # who makes the engine says so, and takes another
            log.debug("engine %s: %s", name, reason(error))
            continue
        if path is not None and not path.is_file():
            missing.append(name)
    return missing


def _device(config: EngineConfig) -> str:
    """The device of an engine: "auto" is the GPU only for an engine that runs on one."""
    only_cpu = config.device == "auto" and config.name != "auto" and MAKERS[config.name].on_gpu is False
    return "cpu" if only_cpu else resolve_device(config.device)


def _fastest(build: Build, target: Target) -> Engine:
    """The engine that takes the shortest time here; which one is remembered for networks of this shape."""
    names = _candidates(target)
    known = _remembered(target, names) or (names[0] if len(names) == 1 else None)
    if known is not None:
        try:
            return _made(known, build, target)
        except SsmdeError as error:
            if len(names) == 1 or isinstance(error, WeightsError):
                raise
            log.warning("%s: measuring the others", error)
            names.remove(known)
    net = build()
    engines: dict[EngineName, Engine] = {}
    for name in names:
        try:
            engines[name] = _made(name, lambda: net, target)
        except SsmdeError as error:
            log.warning("engine %s is left out: %s", name, error)
    _drop_what_disagrees(engines, target.size)
    if not engines:
        raise SsmdeError(f"none of the engines {', '.join(names)} runs on {target.device}; the reasons are above")
    times = _measured(engines, target.size)
    best = min(times, key=lambda name: times[name])
    table = ", ".join(f"{name} {engines[name].precision} {1e3 * seconds:.1f} ms" for name, seconds in times.items())
    log.info("engines at %dx%d on %s: %s: taking %s", *target.size[::-1], target.device, table, best)
    path = _choice_path(target, _candidates(target))
    if path is not None and len(engines) == len(_candidates(target)):  # what failed today may run tomorrow
        write_engine(path, best.encode())
    return engines[best]


def _drop_what_disagrees(engines: dict[EngineName, Engine], size: tuple[int, int]) -> None:
    """Leave out engines whose depth is not torch's: speed is no merit of a wrong one."""
    exact = engines.get("torch")
    if exact is None:
        return
    image = _noise(size)
    depth = exact.infer(image).copy()
    for name in [name for name in engines if name != "torch"]:
        difference = float(np.mean(np.abs(engines[name].infer(image) / depth - 1)))
        if not difference < _AGREE:  # NaN neither
            log.warning("engine %s is left out: its depth differs from torch's by %.0f %%", name, 100 * difference)
            del engines[name]


def _noise(size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


def _candidates(target: Target) -> list[EngineName]:
    return [name for name, each in MAKERS.items() if each.installed() and each.runs_on(target) and each.spontaneous()]


def _remembered(target: Target, names: list[EngineName]) -> EngineName | None:
    path = _choice_path(target, names)
    content = read_engine(path) if path is not None else None
    return next((name for name in names if content == name.encode()), None)


def _measured(engines: dict[EngineName, Engine], size: tuple[int, int]) -> dict[EngineName, float]:
    """Median seconds of each on noise, taking turns: what disturbs one disturbs all."""
    image = _noise(size)
    times: dict[EngineName, list[float]] = {name: [] for name in engines}
    until = time.perf_counter() + _MEASURED_FOR * len(engines)
    while time.perf_counter() < until or min(map(len, times.values())) < 3:
        for name, engine in engines.items():
            start = time.perf_counter()
            engine.infer(image)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


def _choice_path(target: Target, names: list[EngineName]) -> Path | None:
    """Where the choice is kept: it depends on the network's shape and the machine, not on the weights."""
    if not target.digest:
        return None
    shape, config = target.shape, target.config
    machine = processor_name(), os.cpu_count(), _gpu_name(target), config.threads, config.precision
    network = shape.encoder, shape.widths, shape.dense_skips, shape.padding
    return engine_path("choice", target.size, *machine, *network, *versions(names))


def _gpu_name(target: Target) -> str:
    if not target.on_gpu:
        return ""
    import torch

    return torch.cuda.get_device_name(target.device)


@cache
def processor_name() -> str:
    """Its model's name; `platform` knows no more than its family."""
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1) if found else platform.machine()


def _made(name: EngineName, build: Build, target: Target) -> Engine:
    """The engine of that name, warmed up."""
    maker = MAKERS[name]
    if not maker.installed():
        raise SsmdeError(
            f"engine {name!r} is not installed: pip install {' '.join(maker.packages)}, or take engine torch"
        )
    if not maker.runs_on(target):
        where = "NVIDIA GPUs only" if maker.on_gpu else "the CPU only"
        raise SsmdeError(
            f"engine {name!r} runs on {where}, not on {target.device}: take another device, or engine torch"
        )
    try:
        engine = maker.make(build, target)
        warm_up(engine, target.size)
    except _FAILURES as error:
        raise SsmdeError(
            f"engine {name!r} cannot run this network here ({reason(error)}): take another engine"
        ) from error
    return engine
