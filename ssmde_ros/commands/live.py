"""Runs player, depth node and recorder as separate processes over DDS: what the demo and the live benchmark share."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmde_ros.errors import SsmdeError
from ssmde_ros.resources import DDS_PROFILE, dds_profile_variable, find_resource

NAMESPACE = "/ssmde_demo"
_LOOK_EVERY = 0.05  # seconds


@dataclass(frozen=True)
class LiveSetup:
    """What to run.

    Attributes:
        player: arguments of the player node, without the files it writes or waits for.
        parameters: of the depth node, by name.
        node: module that runs as the depth node.
        points: whether the recorder subscribes to the cloud.
        snapshots: whether it keeps a frame for a picture.
    """

    player: list[str]
    parameters: dict[str, object] = field(default_factory=dict)
    node: str = "ssmde_ros.nodes.depth_node"
    points: bool = True
    snapshots: bool = True


@dataclass(frozen=True)
class LiveResult:
    """What was sent and received, and when; times in monotonic nanoseconds, shared by all processes of a machine."""

    sent: dict[int, int]
    received: dict[str, Any]
    snapshot: dict[str, NDArray[Any]]
    node_memory_mb: list[float]
    node_cpu_seconds: float
    node_started: int

    def latencies_ms(self) -> NDArray[np.float64]:
        """From publishing the image to receiving its depth, per frame, in order of stamps."""
        arrivals = {entry["stamp"]: entry["mono"] for entry in self.received["depths"]}
        return np.array([(arrivals[s] - t) / 1e6 for s, t in sorted(self.sent.items()) if s in arrivals])


def environment() -> dict[str, str]:
    """The environment of the processes: shared-memory profile, this machine only, unless the person chose otherwise."""
    env = dict(os.environ)
    env.setdefault(dds_profile_variable(), str(find_resource(DDS_PROFILE)))
    env.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    package_root = str(Path(__file__).resolve().parents[2])
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, env.get("PYTHONPATH")]))
    return env


def _node(namespace: str, module: str, arguments: list[str], ros: list[str]) -> list[str]:
    command = [sys.executable, "-m", module, *arguments]
    return [*command, "--ros-args", "-r", f"__ns:={namespace}", *ros]


def _start(stack: ExitStack, command: list[str]) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, env=environment())
    stack.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGINT, as Ctrl-C would; SIGKILL for what does not listen."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _usage(pid: int) -> tuple[float, float]:
    """Resident memory in MB and CPU seconds so far of a process (Linux)."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0, 0.0
    ticks = int(stat[11]) + int(stat[12])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, ticks / os.sysconf("SC_CLK_TCK")


class _Camera:
    """The three processes of one camera: depth node, recorder and player."""

    def __init__(self, stack: ExitStack, namespace: str, setup: LiveSetup, out: Path) -> None:
        self._out = out
        parameters = [word for name, value in setup.parameters.items() for word in ("-p", f"{name}:={_yaml(value)}")]
        flags = ["--out", str(out)] + ["--points"] * setup.points + ["--snapshots"] * setup.snapshots
        files = ["--ready", str(out / "ready"), "--heard", str(out / "heard"), "--log", str(out / "sent.json")]
        self._recorder = _start(stack, _node(namespace, "ssmde_ros.nodes.recorder_node", flags, []))
        self._player = _start(stack, _node(namespace, "ssmde_ros.nodes.player_node", [*setup.player, *files], []))
        self._command = _node(namespace, setup.node, [], parameters)
        self._memory: list[float] = []

    def start_node(self, stack: ExitStack) -> None:
        """Start the depth node once its camera plays: how long it takes to the first depth is its own doing then."""
        while not (self._out / "ready").is_file() and self._player.poll() is None:
            time.sleep(_LOOK_EVERY)
        self._started = time.monotonic_ns()
        self._node = _start(stack, self._command)

    def playing(self) -> bool:
        """Whether the player has more to play; notes what memory the node holds meanwhile."""
        if self._player.poll() is not None:
            return False
        self._memory.append(_usage(self._node.pid)[0])
        if self._node.poll() is not None:
            raise SsmdeError(f"the depth node ended early, with status {self._node.returncode}")
        return True

    def finish(self) -> LiveResult:
        """Stop the processes and read what they wrote."""
        if self._player.returncode:
            raise SsmdeError(f"the player ended with status {self._player.returncode}")
        cpu = _usage(self._node.pid)[1]
        _stop(self._recorder)
        _stop(self._node)
        for name, process in (("recorder", self._recorder), ("depth node", self._node)):
            if process.returncode:
                raise SsmdeError(f"the {name} ended with status {process.returncode}")
        sent = dict(json.loads((self._out / "sent.json").read_text())["sent"])
        received = json.loads((self._out / "received.json").read_text())
        snapshot: dict[str, NDArray[Any]] = {}
        if (self._out / "snapshot.npz").is_file():
            with np.load(self._out / "snapshot.npz") as file:
                snapshot = dict(file)
        times = {int(stamp): int(moment) for stamp, moment in sent.items()}
        return LiveResult(times, received, snapshot, self._memory, cpu, self._started)


def run_live(setup: LiveSetup) -> LiveResult:
    """Play to a depth node and record what comes back; errors as `run_cameras`."""
    return run_cameras([setup])[0]


def run_cameras(setups: Sequence[LiveSetup]) -> list[LiveResult]:
    """The same of several cameras at once, each in its own namespace with its own depth node.

    Raises:
        SsmdeError: rclpy is not installed, or one of the processes failed.
    """
    if importlib.util.find_spec("rclpy") is None:
        raise SsmdeError("rclpy is not installed: source a ROS 2 setup.bash, or pip install -r requirements/ros.txt")
    with tempfile.TemporaryDirectory(prefix="ssmde_live_") as folder, ExitStack() as stack:
        cameras = []
        for number, setup in enumerate(setups):
            out = Path(folder) / str(number)
            out.mkdir()
            namespace = NAMESPACE if len(setups) == 1 else f"{NAMESPACE}/camera{number}"
            cameras.append(_Camera(stack, namespace, setup, out))
        for camera in cameras:
            camera.start_node(stack)
        while [camera for camera in cameras if camera.playing()]:  # asks all, not the first only
            time.sleep(0.5)
        time.sleep(1.0)  # the last frames are still on their way
        return [camera.finish() for camera in cameras]


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
