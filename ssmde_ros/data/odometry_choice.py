"""Finding the odometry of a camera in a bag, and not believing it before the images agree."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.data.bags import Bag, BagError
from ssmde_ros.data.clip import Clip
from ssmde_ros.data.key_frames import KeyFrames
from ssmde_ros.data.matching import detect, match
from ssmde_ros.data.odometry import Spans, Trajectory, odometry_topics, read_trajectory
from ssmde_ros.data.transforms import TransformTree, read_transforms
from ssmde_ros.geometry import relative_motion

_log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

_PAIRS = 16  # that are compared with the images
_FEWEST_PAIRS = 4
_STILL = 1e-4  # metres between two frames that show parallax: nobody's odometry is that still
_TURN, _TRAVEL = 3.0, 35.0  # degrees that odometry and images may differ by, in the median
_JUMP = 30.0  # times the usual speed
_FASTEST = 70.0  # metres a second


@dataclass(frozen=True)
class Odometry:
    """Poses of the camera's optical frame and where they come from."""

    name: str
    trajectory: Trajectory


def find_odometry(bag: Bag, frame_id: str, spans: Spans | None = None) -> tuple[list[Odometry], list[str]]:
    """Candidates in a bag, those that speak of the camera itself first, and why others are none.

    Args:
        frame_id: optical frame of the images.
        spans: stretches of recording time to read.
    """
    tree = read_transforms(bag, spans)
    found, refused = [], []
    for topic in odometry_topics(bag):
        try:
            trajectory = read_trajectory(bag, topic.name, spans)
        except BagError as error:
            refused.append(str(error))
            continue
        placed = _in_camera(trajectory, tree, frame_id)
        if placed is None:
            refused.append(
                f"{topic.name} tells where {trajectory.frame_id!r} is, the images come from {frame_id!r}, and "
                "/tf_static does not say how one sits on the other"
            )
        else:
            found.append(Odometry(topic.name, placed))
    found.sort(key=lambda each: each.trajectory.frame_id != frame_id)
    moving = tree.trajectory(frame_id.strip("/"))
    if moving is not None:
        found.append(Odometry(f"/tf (of {frame_id})", moving))
    return found, refused


def _in_camera(trajectory: Trajectory, tree: TransformTree, frame_id: str) -> Trajectory | None:
    body, camera = trajectory.frame_id.strip("/"), frame_id.strip("/")
    if not body or not camera or body == camera:
        return trajectory
    mounted = tree.between(body, camera)
    return None if mounted is None else Trajectory(trajectory.stamps, trajectory.poses @ mounted, body)


def implausible(trajectory: Trajectory, clips: Sequence[Clip], frames: Sequence[KeyFrames]) -> str:
    """Why an odometry is not to be believed; empty when it is.

    Its motions are compared with those of features between key frames: turn and direction of travel do not depend on
    the scale, and a frame that sits wrongly on the robot shows in both.
    """
    jump = _jump(trajectory)
    if jump:
        return jump
    known = [trajectory.at(clip.stamps) for clip in clips]
    if not any(seen.any() for _, seen in known):
        return "it covers none of the images' times"
    pairs = [
        (number, t - gaps[-1], t + gaps[-1])
        for number, each in enumerate(frames)
        for t, gaps in each.gaps.items()
        if known[number][1][[t - gaps[-1], t + gaps[-1]]].all()
    ]
    lengths, turns, travels = [], [], []
    for number, a, b in (pairs[i] for i in np.linspace(0, len(pairs) - 1, min(_PAIRS, len(pairs))).astype(int)):
        poses, clip = known[number][0], clips[number]
        given = np.linalg.inv(poses[b]) @ poses[a]
        lengths.append(float(np.linalg.norm(given[:3, 3])))
        seen = _seen_motion(clip, a, b)
        if seen is not None:
            turns.append(_degrees(seen[:3, :3].T @ given[:3, :3]))
            travels.append(_between(seen[:3, 3], given[:3, 3]))
    if not lengths:
        return "it knows none of the key frames"
    if float(np.median(lengths)) < _STILL:
        return "it is frozen: the images show that the camera travels, its poses do not change"
    if len(turns) < _FEWEST_PAIRS:
        _log.warning("odometry could be compared with the images in %d places only", len(turns))
        return ""
    turn, travel = float(np.median(turns)), float(np.median(travels))
    if turn > _TURN or travel > _TRAVEL:
        return (
            f"it disagrees with the images by {turn:.1f} degrees in the turn and {travel:.0f} degrees in the direction "
            "of travel: are its frame and its time stamps those of the camera's optical frame?"
        )
    return ""


def _jump(trajectory: Trajectory) -> str:
    seconds = np.diff(trajectory.stamps) / 1e9
    steps = np.linalg.norm(np.diff(trajectory.poses[:, :3, 3], axis=0), axis=1)
    timed = seconds > 1e-6
    if not timed.any():
        return "its time stamps do not advance"
    speed = steps[timed] / seconds[timed]
    usual = float(np.quantile(speed, 0.9))
    fastest = int(speed.argmax())
    if speed[fastest] > _FASTEST or (steps[timed][fastest] > 0.3 and speed[fastest] > _JUMP * max(usual, 0.05)):
        return f"it jumps by {steps[timed][fastest]:.1f} m within {1e3 * seconds[timed][fastest]:.0f} ms"
    return ""


def _seen_motion(clip: Clip, a: int, b: int) -> Floats | None:
    features = detect(clip.part(a, a + 1)) + detect(clip.part(b, b + 1))
    found = relative_motion(*match(features[0], features[1]))
    return None if found is None else found[0]


def _degrees(rotation: Floats) -> float:
    return float(np.degrees(np.linalg.norm(cv2.Rodrigues(rotation)[0])))


def _between(a: Floats, b: Floats) -> float:
    """Angle between two directions, degrees."""
    cosine = a @ b / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))


def attach_odometry(
    path_bag: Bag, clips: Sequence[Clip], frames: Sequence[KeyFrames], frame_id: str, wanted: str, spans: Spans | None
) -> str:
    """Give the clips the poses of the first odometry that the images agree with.

    Args:
        wanted: "auto", or the one topic to use.

    Returns:
        Its name; empty when there is none. What is used, and what is refused and why, is logged.

    Raises:
        BagError: the wanted topic is missing or implausible.
    """
    candidates, refused = find_odometry(path_bag, frame_id, spans)
    if wanted != "auto":
        candidates = [each for each in candidates if each.name.split(" ")[0] == wanted]
        if not candidates:
            raise BagError(
                f"bag {path_bag.path}: {wanted} is no odometry of the camera" + "".join(f"; {r}" for r in refused)
            )
    for line in refused:
        _log.warning("odometry not used: %s", line)
    for candidate in candidates:
        why = implausible(candidate.trajectory, clips, frames)
        if why:
            if wanted != "auto":
                raise BagError(f"bag {path_bag.path}: {wanted} cannot be used: {why}")
            _log.warning("odometry not used: %s: %s", candidate.name, why)
            continue
        for clip in clips:
            clip.poses, clip.pose_known = candidate.trajectory.at(clip.stamps)
        _log.info("odometry: using %s, so depth will be metric (--odometry none to do without)", candidate.name)
        return candidate.name
    return ""
