"""Whether a new student replaces the old one: frame by frame, on what neither has learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ssmde_ros.evaluation.paired import Paired, compare
from ssmde_ros.training.holdout import Errors

FEWEST_FRAMES = 8  # that a measure needs to decide
_MAX_LOSS = 0.03  # by which a measure beside the deciding one may become worse
NAMES = {
    "depth": "AbsRel against measured depth",
    "points": "AbsRel against triangulated points",
    "photometric": "photometric error",
    "metric": "AbsRel in metres, not scaled,",
}
"""Of the measures, the most direct first; the last one never decides, but may become worse as little as any."""


@dataclass
class Verdict:
    """Whether a new student replaces the old one.

    Attributes:
        promoted: whether it does.
        reason: why, in words.
        deciding: the measure that decided, and `compared`, all of them.
        before, after: means of each measure.
    """

    promoted: bool
    reason: str
    deciding: str
    compared: dict[str, Paired] = field(default_factory=dict)

    @property
    def gain(self) -> float:
        """Relative fall of the deciding error."""
        return self.compared[self.deciding].gain if self.deciding in self.compared else 0.0


def judge(
    before: Errors, after: Errors, min_gain: float, p_value: float, looks: Sequence[tuple[Errors, Errors]] = ()
) -> Verdict:
    """Compare two students frame by frame; the most direct measure that has enough frames decides.

    Args:
        min_gain: relative fall of the deciding error that is worth a new generation.
        p_value: probability of such a gain by luck that is accepted.
        looks: before and after of the students from which this one was chosen by the frames that judge it.
    """
    compared = _compared(before, after)
    if not compared:
        return Verdict(False, f"too little was held out to judge: fewer than {FEWEST_FRAMES} frames", "", compared)
    deciding = next(iter(compared))
    (old, new), *rivals = _shared(deciding, [(before, after), *looks])
    if old:
        compared[deciding] = compare(old, new, rivals=rivals)
    found = compared[deciding]
    among = f", the best of {len(rivals)}" if len(rivals) > 1 else ""
    told = (
        f"{NAMES[deciding]} {found.before:.4f} to {found.after:.4f} on {found.frames} held-out frames "
        f"(p {found.p:.4f}{among})"
    )
    if worse := _objecting(compared, p_value):
        loss = f"{NAMES[worse]} became worse by {-100 * compared[worse].gain:.1f} %"
        return Verdict(False, f"{loss}; {told}", deciding, compared)
    if found.gain < min_gain:
        return Verdict(False, f"no gain worth a generation: {told}", deciding, compared)
    if found.p > p_value:
        return Verdict(False, f"the gain may be luck: {told}", deciding, compared)
    return Verdict(True, told, deciding, compared)


def deciding_measure(before: Errors, after: Errors) -> str | None:
    """The measure that decides; None where too few frames have any."""
    return next(iter(_compared(before, after)), None)


def unopposed(before: Errors, after: Errors, p_value: float) -> bool:
    """Whether no measure beside the deciding one becomes so much worse that it would keep the student from promotion."""
    return _objecting(_compared(before, after), p_value) is None


def _compared(before: Errors, after: Errors) -> dict[str, Paired]:
    """Every measure that has enough frames, the deciding one first."""
    compared: dict[str, Paired] = {}
    for name in NAMES:
        ((old, new),) = _shared(name, [(before, after)])
        if len(old) >= FEWEST_FRAMES:
            compared[name] = compare(old, new)
    return compared


def _objecting(compared: dict[str, Paired], p_value: float) -> str | None:
    """The measure beside the deciding one that became worse."""
    deciding = next(iter(compared), None)
    for name, other in compared.items():
        # True depth knows better than points and photometry, but not than itself in metres.
        may_object = name == "metric" or (name != deciding and deciding != "depth")
        if may_object and other.worse(_MAX_LOSS, p_value):
            return name
    return None


def _shared(name: str, pairs: Sequence[tuple[Errors, Errors]]) -> list[tuple[list[float], list[float]]]:
    """One measure before and after, on the frames that all pairs have it on."""
    found = [(getattr(old, name), getattr(new, name)) for old, new in pairs]
    frames = sorted(set.intersection(*(old.keys() & new.keys() for old, new in found)))
    return [([max(old[f], 1e-6) for f in frames], [max(new[f], 1e-6) for f in frames]) for old, new in found]
