"""What is wrong with a recording, said before an hour of training shows it: light, motion, lens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.data.clip import Clip
from ssmde_ros.data.key_frames import ADVICE, REASONS, KeyFrameConfig, Reason, bad_pictures, why
from ssmde_ros.data.matching import detect, match
from ssmde_ros.data.parallax import ParallaxMeter

_PAIRS = 24  # that are looked at for parallax
_MANY_BAD = 0.2  # share of unfit frames that is worth a line
_LENS_PAIRS = 10
_FEWEST_PAIRS, _FEWEST_MATCHES = 6, 40
_FACTORS = (0.35, 0.5, 0.71, 1.0, 1.41, 2.0, 2.83)  # of the focal length
_NEXT = 0.06  # share of the matches by which more must agree with another focal length
_MOST = 0.75  # share of the pairs that must prefer it


def checkup(clip: Clip, gaps: Sequence[int]) -> list[str]:
    """Complaints, a line each; none about a recording that can teach depth.

    Args:
        clip: with its tracking images.
        gaps: distances between target and source frames that training uses.
    """
    config = KeyFrameConfig()
    bad = bad_pictures(clip.tracking, config.min_sharpness)
    lines = _pictures(clip, bad) + _motion(clip, max(gaps), bad, config)
    return lines or lens_complaints(clip, 2 * max(gaps))


def _pictures(clip: Clip, bad: dict[int, Reason]) -> list[str]:
    lines = [
        f"{count} of {len(clip)} frames are {REASONS[reason]}; {ADVICE[reason]}"
        for reason, count in Counter(bad.values()).items()
        if count > _MANY_BAD * len(clip)
    ]
    same = sum(bool((a == b).all()) for a, b in zip(clip.images[1:], clip.images[:-1], strict=True))
    if same:
        lines.append(f"{same} of {len(clip)} frames repeat the one before; they teach nothing")
    return lines


def _motion(clip: Clip, gap: int, bad: dict[int, Reason], config: KeyFrameConfig) -> list[str]:
    """The reason why most pairs of frames show no parallax, where most show none."""
    assert clip.tracking_camera is not None
    meter = ParallaxMeter(clip.tracking, clip.tracking_camera)
    floor = max(float(np.radians(config.min_parallax)), 1 / clip.camera.fx)
    reasons: Counter[Reason | None] = Counter()
    for a in _spread(len(clip) - gap, _PAIRS):
        if a not in bad and a + gap not in bad:
            seen = meter.between(a, a + gap)
            useful = seen.tracked >= config.min_tracked and seen.angle >= floor
            reasons[None if useful else why([seen], config.min_tracked, floor)] += 1
    count = reasons.total()
    if not count or reasons[None] >= count / 2:
        return []
    reason, frequent = next((r, n) for r, n in reasons.most_common() if r is not None)
    wider = "; or try larger gaps" if reason in ("still", "slow") else ""
    return [f"{frequent} of {count} pairs of frames {gap} apart teach nothing: {ADVICE[reason]}{wider}"]


def lens_complaints(clip: Clip, gap: int) -> list[str]:
    """A line about the intrinsics, if matched features of frames `gap` apart speak against them."""
    factor, before, after = lens_factor(clip, gap)
    if factor == 1:
        return []
    return [
        f"are the intrinsics right? {100 * after:.0f} % of the matched features agree with a focal length about "
        f"{factor:.2g} times as long, {100 * before:.0f} % with the one given"
    ]


def lens_factor(clip: Clip, gap: int) -> tuple[float, float, float]:
    """By which factor the focal length is wrong, as far as matched features can tell.

    A camera that only travels says nothing of its focal length, and training does not need it then: depth stays right
    up to scale. A camera that turns as well does: with a wrong one its matches have no common epipole.

    Args:
        clip: with its tracking images.
        gap: frames between the two of a pair.

    Returns:
        The factor, 1 where nothing speaks against the lens; the share of the matches that agree with an essential
        matrix before and after.
    """
    assert clip.tracking_camera is not None
    shares = []
    for a in _spread(len(clip) - gap, _LENS_PAIRS):
        one, two = (detect(clip.part(frame, frame + 1), 800)[0] for frame in (a, a + gap))
        points = match(one, two)
        if len(points[0]) >= _FEWEST_MATCHES:
            shares.append([_agreeing(*points, factor, clip.tracking_camera.fx) for factor in _FACTORS])
    if len(shares) < _FEWEST_PAIRS:
        return 1.0, 0.0, 0.0
    table, given = np.array(shares), _FACTORS.index(1.0)
    mean = table.mean(0)
    best = int(mean.argmax())
    liked = float((table[:, best] > table[:, given]).mean())
    if mean[best] - mean[given] < _NEXT or liked < _MOST:
        best = given
    return _FACTORS[best], float(mean[given]), float(mean[best])


def _agreeing(a: NDArray[np.float64], b: NDArray[np.float64], factor: float, focal: float) -> float:
    """Share of matched points (normalised coordinates) within a pixel of an essential matrix."""
    _, agree = cv2.findEssentialMat(
        a / factor, b / factor, np.eye(3), method=cv2.USAC_MAGSAC, prob=0.999, threshold=1 / (focal * factor),
        maxIters=1000,
    )  # fmt: skip
    return 0.0 if agree is None else float(agree.mean())


def _spread(count: int, most: int) -> list[int]:
    """At most `most` numbers, evenly over the first `count`."""
    return sorted(set(np.linspace(0, count - 1, min(most, count)).astype(int).tolist())) if count > 0 else []
