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
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ssmde_ros.errors import SsmdeError
from ssmde_ros.resources import DDS_PROFILE, find_resource

NAMESPACE = "/ssmde_demo"


@dataclass(frozen=True)
class LiveSetup:
    """What to run.

    Attributes:
        player: arguments of the player node, without its log.
        parameters: of the depth node, by name.
        points: whether the recorder subscribes to the cloud.
        snapshots: whether it keeps a frame for a picture.
    """

    player: list[str]
    parameters: dict[str, object] = field(default_factory=dict)
    points: bool = True
    snapshots: bool = True


@dataclass(frozen=True)
class LiveResult:
    """What was sent and received; times in monotonic nanoseconds, shared by all processes of a machine."""

    sent: dict[int, int]
    received: dict[str, Any]
    snapshot: dict[str, NDArray[Any]]
    node_memory_mb: list[float]
    node_cpu_seconds: float

    def latencies_ms(self) -> NDArray[np.float64]:
        """From publishing the image to receiving its depth, per frame, in order of stamps."""
        arrivals = {entry["stamp"]: entry["mono"] for entry in self.received["depths"]}
        return np.array([(arrivals[s] - t) / 1e6 for s, t in sorted(self.sent.items()) if s in arrivals])


def environment() -> dict[str, str]:
    """The environment of the processes: shared-memory profile, this machine only, unless the person chose otherwise."""
    env = dict(os.environ)
    # Fast DDS 3 (Kilted) renamed the variable, and warns about the old name.
    old = env.get("ROS_DISTRO") in ("humble", "iron", "jazzy")
    env.setdefault(f"{'FASTRTPS' if old else 'FASTDDS'}_DEFAULT_PROFILES_FILE", str(find_resource(DDS_PROFILE)))
    env.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    package_root = str(Path(__file__).resolve().parents[2])
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, env.get("PYTHONPATH")]))
    return env


def _node(module: str, arguments: list[str], ros: list[str]) -> list[str]:
    command = [sys.executable, "-m", f"ssmde_ros.nodes.{module}", *arguments]
    return [*command, "--ros-args", "-r", f"__ns:={NAMESPACE}", *ros]


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


def run_live(setup: LiveSetup) -> LiveResult:
    """Play to a depth node and record what comes back.

    Raises:
        SsmdeError: rclpy is not installed, or one of the processes failed.
    """
    if importlib.util.find_spec("rclpy") is None:
        raise SsmdeError("rclpy is not installed: source a ROS 2 setup.bash, or pip install -r requirements/ros.txt")
    parameters = [word for name, value in setup.parameters.items() for word in ("-p", f"{name}:={_yaml(value)}")]
    with tempfile.TemporaryDirectory(prefix="ssmde_live_") as folder, ExitStack() as stack:
        out = Path(folder)
        flags = ["--out", str(out)] + ["--points"] * setup.points + ["--snapshots"] * setup.snapshots
        node = _start(stack, _node("depth_node", [], parameters))
        recorder = _start(stack, _node("recorder_node", flags, []))
        player = _start(
            stack,
            _node("player_node", [*setup.player, "--heard", str(out / "heard"), "--log", str(out / "sent.json")], []),
        )
        memory: list[float] = []
        while player.poll() is None:
            time.sleep(0.5)
            memory.append(_usage(node.pid)[0])
            if node.poll() is not None:
                raise SsmdeError(f"the depth node ended early, with status {node.returncode}")
        if player.returncode:
            raise SsmdeError(f"the player ended with status {player.returncode}")
        time.sleep(1.0)  # the last frames are still on their way
        cpu = _usage(node.pid)[1]
        _stop(recorder)
        _stop(node)
        for name, process in (("recorder", recorder), ("depth node", node)):
            if process.returncode:
                raise SsmdeError(f"the {name} ended with status {process.returncode}")
        sent = dict(json.loads((out / "sent.json").read_text())["sent"])
        received = json.loads((out / "received.json").read_text())
        snapshot: dict[str, NDArray[Any]] = {}
        if (out / "snapshot.npz").is_file():
            with np.load(out / "snapshot.npz") as file:
                snapshot = dict(file)
        return LiveResult({int(s): int(t) for s, t in sent.items()}, received, snapshot, memory, cpu)


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
