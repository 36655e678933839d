"""Which frames of a recording can teach depth, with which neighbours, and why the others cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ssmde_ros.data.clip import Clip
from ssmde_ros.data.parallax import Parallax, ParallaxMeter
from ssmde_ros.errors import SsmdeError

Reason = Literal["blurred", "dark", "bright", "still", "turning", "slow", "lost", "edge"]

REASONS: dict[Reason, str] = {
    "blurred": "blurred by motion or out of focus",
    "dark": "too dark",
    "bright": "overexposed",
    "still": "the camera stands still, or the frame repeats the one before",
    "turning": "the camera turns without travelling",
    "slow": "the camera travels too little for its distance to the scene",
    "lost": "hardly anything is recognised in the neighbouring frames",
    "edge": "at the beginning or end of a piece, without neighbours on both sides",
}

ADVICE: dict[Reason, str] = {
    "blurred": "record with a shorter exposure or slower motion",
    "dark": "record with more light or a longer exposure",
    "bright": "record with a shorter exposure",
    "still": "the camera never translates: move it sideways or forward while recording",
    "turning": "the camera turns but never translates: depth shows only when it moves sideways or forward",
    "slow": "the camera hardly translates: move it farther or nearer to the scene while recording",
    "lost": "record at a higher frame rate or slower motion",
    "edge": "record without interruption",
}
_IN_MOTION: tuple[Reason, ...] = ("turning", "slow", "lost")


class KeyFrameError(SsmdeError):
    """A recording that cannot teach; the message says why, and how to record one that can."""


@dataclass(frozen=True)
class KeyFrameConfig:
    """What makes a key frame.

    Attributes:
        gaps: distances to the source frames that are tried, frames.
        min_parallax: degrees of flow, less what turning explains, below which a pair tells nothing.
        wanted_parallax: the same in pixels of the working size; the gaps nearest to it are used.
        min_tracked: share of the corners that must be found again.
        gaps_per_frame: how many gaps a key frame may keep.
        min_sharpness: variance of the Laplacian, of its median around the frame.
        min_frames: fewer key frames than this are refused.
        min_share: of the frames in which something moves; where fewer can teach, it is not the camera that travels.
    """

    gaps: tuple[int, ...] = (1, 2, 3, 4, 6, 8, 12, 16)
    min_parallax: float = 0.2
    wanted_parallax: float = 3.0
    min_tracked: float = 0.5
    gaps_per_frame: int = 3
    min_sharpness: float = 0.35
    min_frames: int = 16
    min_share: float = 0.3

    def __post_init__(self) -> None:
        if not self.gaps or min(self.gaps) < 1 or list(self.gaps) != sorted(set(self.gaps)):
            raise ValueError(f"key_frames: gaps must be positive and rising, got {self.gaps}")
        if min(self.min_parallax, self.wanted_parallax) <= 0 or min(self.gaps_per_frame, self.min_frames) < 1:
            raise ValueError("key_frames: parallaxes, gaps_per_frame and min_frames must be positive")
        if not all(0 <= share < 1 for share in (self.min_tracked, self.min_sharpness, self.min_share)):
            raise ValueError("key_frames: min_tracked, min_sharpness and min_share must lie in [0, 1)")


@dataclass
class KeyFrames:
    """Key frames of one clip.

    Attributes:
        gaps: by number of the key frame, the distances k at which both t - k and t + k are good sources.
        rejected: by number of the frame, why it is none.
        parallax: degrees, of every frame at its best gap; what the histogram shows.
    """

    gaps: dict[int, tuple[int, ...]] = field(default_factory=dict)
    rejected: dict[int, Reason] = field(default_factory=dict)
    parallax: list[float] = field(default_factory=list)


def choose_key_frames(clip: Clip, config: KeyFrameConfig | None = None) -> KeyFrames:
    """Key frames of a clip.

    Args:
        clip: with its tracking images.
    """
    config = config or KeyFrameConfig()
    assert clip.tracking_camera is not None, "read with tracking images"
    bad = bad_pictures(clip.tracking, config.min_sharpness)
    pairs = _compare(clip, config, set(bad))
    # A pair counts from a parallax of min_parallax, and from one pixel of the images it trains on.
    floor = max(np.radians(config.min_parallax), 1 / clip.camera.fx)
    chosen = KeyFrames()
    for frame in range(len(clip)):
        if frame in bad:
            chosen.rejected[frame] = bad[frame]
            continue
        sides = {
            gap: (pairs[frame - gap, gap], pairs[frame, gap])
            for gap in config.gaps
            if (frame - gap, gap) in pairs and (frame, gap) in pairs
        }
        angles = {gap: min(a.angle, b.angle) for gap, (a, b) in sides.items()}
        found = {g: min(a.tracked, b.tracked) for g, (a, b) in sides.items()}
        good = [g for g in sides if angles[g] >= floor and found[g] >= config.min_tracked]
        if not good:
            both = [pair for pairs_of_gap in sides.values() for pair in pairs_of_gap]
            chosen.rejected[frame] = why(both, config.min_tracked, floor) if both else "edge"
        else:
            wanted = config.wanted_parallax / clip.camera.fx
            nearest = sorted(good, key=lambda g: abs(np.log(angles[g] / wanted)))[: config.gaps_per_frame]
            chosen.gaps[frame] = tuple(sorted(nearest))
        tracked = [angles[g] for g in sides if found[g] >= config.min_tracked]
        if tracked:
            chosen.parallax.append(float(np.degrees(max(tracked))))
    return chosen


def _compare(clip: Clip, config: KeyFrameConfig, bad: set[int]) -> dict[tuple[int, int], Parallax]:
    """By (earlier frame, gap). Larger gaps are not tried once what they show is lost."""
    assert clip.tracking_camera is not None
    meter = ParallaxMeter(clip.tracking, clip.tracking_camera)
    found: dict[tuple[int, int], Parallax] = {}
    for frame in tqdm(range(len(clip)), desc=f"parallax of {clip.name}", unit="frame", disable=None, delay=2.0):
        for gap in config.gaps:
            if frame + gap >= len(clip) or frame in bad:
                break
            if frame + gap in bad:
                continue
            found[frame, gap] = seen = meter.between(frame, frame + gap)
            if seen.tracked < 0.5 * config.min_tracked:
                break
    return found


def bad_pictures(images: Sequence[NDArray[np.uint8]], least: float) -> dict[int, Reason]:
    """Frames that are unfit by themselves."""
    bad: dict[int, Reason] = {}
    sharpness = np.zeros(len(images))
    for number, image in enumerate(images):
        small = cv2.resize(image, (320, max(1, round(320 * image.shape[0] / image.shape[1]))))
        # Signed: in uint8, differences below zero would wrap around.
        sharpness[number] = cv2.Laplacian(small, cv2.CV_32F).var()
        mean, clipped = float(small.mean()), float((small >= 253).mean())
        if mean < 8 or float(small.std()) < 3:
            bad[number] = "dark" if mean < 128 else "bright"
        elif clipped > 0.6:
            bad[number] = "bright"
    for number, value in enumerate(sharpness):
        around = sharpness[max(0, number - 12) : number + 13]
        if number not in bad and value < least * float(np.median(around)):
            bad[number] = "blurred"
    return bad


def why(pairs: Sequence[Parallax], min_tracked: float, floor: float) -> Reason:
    """The reason none of these pairs would do.

    Args:
        min_tracked: see `KeyFrameConfig`.
        floor: least parallax, radians.
    """
    seen = [pair for pair in pairs if pair.tracked >= min_tracked]
    if not seen:
        return "lost"
    if max(pair.flow for pair in seen) < floor:
        return "still"
    if max(pair.angle for pair in seen) >= floor:
        return "slow"  # on one side only, or not in the same gap
    return "turning" if max(pair.turn for pair in seen) > 4 * floor else "slow"


def require_key_frames(found: Sequence[KeyFrames], name: str, config: KeyFrameConfig) -> None:
    """Refuse early what cannot teach.

    Raises:
        KeyFrameError: too few key frames in all; the message names the most frequent reason and what to do.
    """
    count = sum(len(each.gaps) for each in found)
    reasons: Counter[Reason] = Counter(
        reason for each in found for reason in each.rejected.values() if reason != "edge"
    )
    moving = count + sum(reasons[reason] for reason in _IN_MOTION)
    if count >= config.min_frames and count >= config.min_share * moving:
        return
    total = count + sum(len(each.rejected) for each in found)
    if not reasons:
        raise KeyFrameError(f"{name} has {total} frames, of which {count} can teach; at least {config.min_frames} must")
    reason, frequent = reasons.most_common(1)[0]
    wanted = max(config.min_frames, round(config.min_share * moving))
    raise KeyFrameError(
        f"{name} cannot teach depth: {count} of {total} frames are usable, {wanted} must be. "
        f"{frequent} are rejected because {REASONS[reason]}; {ADVICE[reason]}"
    )


def summary(found: Sequence[KeyFrames]) -> str:
    """How many key frames, at which gaps, and why the others are none."""
    count = sum(len(each.gaps) for each in found)
    total = count + sum(len(each.rejected) for each in found)
    gaps = Counter(gap for each in found for kept in each.gaps.values() for gap in kept)
    reasons = Counter(reason for each in found for reason in each.rejected.values())
    lines = [f"{count} of {total} frames are key frames"]
    if gaps:
        lines.append("gaps in use: " + ", ".join(f"{gap} ({n}x)" for gap, n in sorted(gaps.items())))
    lines += [f"{n} rejected: {REASONS[reason]}" for reason, n in reasons.most_common()]
    return "\n".join(lines)
