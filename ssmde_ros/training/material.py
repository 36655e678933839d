"""What a fine-tune learns from and is judged by: a recording, read, sorted out and split."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ssmde_ros.data.bags import Bag
from ssmde_ros.data.checkup import lens_complaints
from ssmde_ros.data.clip import Clip
from ssmde_ros.data.key_frames import KeyFrames, choose_key_frames, require_key_frames, summary
from ssmde_ros.data.odometry_choice import attach_odometry
from ssmde_ros.data.recording import Recording, load_recording, split
from ssmde_ros.data.sources import is_bag, open_source
from ssmde_ros.data.triplets import TrainingClip
from ssmde_ros.data.truth import depth_topic, measured_depth
from ssmde_ros.errors import SsmdeError
from ssmde_ros.networks import DepthNet
from ssmde_ros.resources import default_weights
from ssmde_ros.training.finetune_config import FineTuneConfig
from ssmde_ros.training.holdout import Holdout
from ssmde_ros.training.losses.pseudo import Convention
from ssmde_ros.training.pseudo_depth import ask_for_pseudo_depth, make_provider
from ssmde_ros.training.run import skip_unknown, work_out
from ssmde_ros.training.verdict import FEWEST_FRAMES

_log = logging.getLogger(__name__)

_SCALE_POINTS = 200
_SCALE_FRAMES = 60


@dataclass
class Material:
    """What a fine-tune learns from and is judged by.

    Attributes:
        learn: clips with key frames and motions.
        holdout: the judge.
        frames: key frames of all clips, for the report.
        odometry: name of the odometry in use; empty when there is none.
        convention: of the pseudo-depth of `learn`, where there is any.
        recording: what was read.
    """

    learn: list[TrainingClip]
    holdout: Holdout
    frames: list[KeyFrames]
    odometry: str
    convention: Convention
    recording: Recording


def gather(config: FineTuneConfig, start: DepthNet, proceed: Callable[[], None] = lambda: None) -> Material:
    """Read the recording, choose key frames, find odometry, and hold a part out.

    Args:
        proceed: called every few seconds; what it raises ends the work.

    Raises:
        SsmdeError: a recording that cannot be read or cannot teach; the message says why.
    """
    wished = config.run(Path(), "visual", default_weights())
    on_gpu = torch.cuda.is_available() and wished.run.accelerator != "cpu"
    provider = make_provider(wished.pseudo, "cuda" if on_gpu else "cpu")
    reading = config.clip(*working_size(config, start))
    recording = load_recording(reading, config.recording, proceed)
    learn, judge = split(recording.clips, config.held_out)
    clips = learn + judge
    frames = []
    for clip in clips:
        frames.append(choose_key_frames(clip, config.key_frames))
        proceed()
    _log.info("%s", summary(frames))
    require_key_frames(frames, config.bag, config.key_frames)
    longest, found = max(zip(clips, frames, strict=True), key=lambda pair: len(pair[1].gaps))
    for line in lens_complaints(longest, 2 * max(gap for gaps in found.gaps.values() for gap in gaps)):
        _log.warning("%s: %s", config.bag, line)
    odometry = _odometry(config, reading.path, recording, clips, frames)
    train = config.run(Path(), "odometry" if odometry else "visual", default_weights())
    items = [TrainingClip(clip, gaps=found.gaps) for clip, found in zip(clips, frames, strict=True)]
    if not any(item.gaps for item in items[: len(learn)]):
        raise SsmdeError(f"{config.bag}: all key frames lie in the held-out part; lower held_out, or record longer")
    for item in items:
        work_out(item, train)
        proceed()
    skip_unknown(items[: len(learn)], train)
    truth = _truth(config, reading.path, judge, recording)
    holdout = Holdout(items[len(learn) :], truth, metric=bool(odometry))
    if max(len(holdout.frames), len(truth)) < FEWEST_FRAMES:
        raise SsmdeError(
            f"{config.bag}: {len(holdout.frames)} frames are held out to judge the result, {FEWEST_FRAMES} must be; "
            "raise held_out, or record longer"
        )
    learned = [item for item in items[: len(learn)] if item.gaps]
    convention = ask_for_pseudo_depth(provider, learned, train.triplets.gaps, proceed)
    return Material(learned, holdout, frames, odometry, convention, recording)


def _odometry(
    config: FineTuneConfig, path: Path, recording: Recording, clips: list[Clip], frames: list[KeyFrames]
) -> str:
    if config.odometry == "none" or not is_bag(path):
        return ""
    with Bag(path, salvage=True) as bag:
        return attach_odometry(bag, clips, frames, recording.frame_id, config.odometry, recording.spans)


def _truth(
    config: FineTuneConfig, path: Path, judge: list[Clip], recording: Recording
) -> dict[tuple[int, int], NDArray[np.float32]]:
    if not is_bag(path) or not judge:
        return {}
    with Bag(path, salvage=True) as bag:
        topic = depth_topic(bag, config.depth_topic)
        if topic is None:
            return {}
        found = measured_depth(bag, topic, judge, recording.frame_id, recording.spans)
    _log.info("%s judges on %d held-out frames; it teaches nothing", topic.name, len(found))
    return found


def working_size(config: FineTuneConfig, net: DepthNet) -> tuple[int, int]:
    """Width and height of about `pixels` pixels, multiples of 32, in the aspect of the camera."""
    if config.width:
        return config.width, config.height
    clip = config.clip(net.config.input_width, net.config.input_height)
    with open_source(clip.path, clip.image_topic, clip.camera_info_topic, salvage=True) as source:
        if source.calibration is not None:
            aspect = source.calibration.width / source.calibration.height
        else:
            first = next(iter(source.frames)).image
            aspect = first.shape[1] / first.shape[0]
    height = max(2, round((config.pixels / aspect) ** 0.5 / 32))
    return 32 * max(2, round(height * aspect)), 32 * height


def metric_start(net: DepthNet, clips: Sequence[TrainingClip]) -> DepthNet:
    """The network with its unit changed to that of the motions: all depths times one factor.

    A student that is right up to scale would otherwise spend its first minutes on finding the metre.
    """
    ratios = []
    with torch.inference_mode():
        for item in clips:
            for (t, _), pair in list(item.motions.items())[:: max(1, len(item.motions) // _SCALE_POINTS)]:
                kept = pair.inverse_depth > 0
                if not pair.metric or not kept.any():
                    continue
                depth = net.depth(item.clip.images[t : t + 1].float() / 255)
                u, v = pair.pixels[kept].round().long().unbind(1)
                here = depth[0, 0, v.clamp(0, depth.shape[2] - 1), u.clamp(0, depth.shape[3] - 1)]
                ratios.append(float((1 / (pair.inverse_depth[kept] * here)).median()))
    factor = float(np.median(ratios)) if ratios else 1.0
    _log.info("odometry gives the metre: the depth of the start is scaled by %.2f", factor)
    return _rescaled(net, factor)


def metric_end(net: DepthNet, start: DepthNet, clips: Sequence[TrainingClip]) -> DepthNet:
    """A student that was metric and has learned without odometry, in the unit of the start again.

    Without odometry the scale of the motions follows that of the student, and nothing holds either.
    """
    ratios = []
    for item in clips:
        for image in item.clip.images[:: max(1, len(item.clip) * len(clips) // _SCALE_FRAMES)]:
            picture = image[None].float() / 255
            with torch.inference_mode():
                ratios.append(float((start.depth(picture) / net.depth(picture)).median()))
    factor = float(np.median(ratios))
    _log.info("without odometry the unit of depth has drifted by %.3f; it is set back to that of the start", factor)
    return _rescaled(net, factor)


def _rescaled(net: DepthNet, factor: float) -> DepthNet:
    """The metric network whose depths are those of `net` times a factor."""
    near, far = net.config.min_depth * factor, net.config.max_depth * factor
    scaled = DepthNet(replace(net.config, min_depth=near, max_depth=far, scale_kind="metric"))
    scaled.load_state_dict(net.state_dict())
    return scaled.eval()
