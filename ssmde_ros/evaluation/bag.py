"""Scoring a depth predictor on the ground truth inside a bag."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.data.bags import Bag, BagError, Topic, header_stamp
from ssmde_ros.data.images import DecodedImage, ImageFormatError, pixels
from ssmde_ros.evaluation.metrics import DepthMetrics
from ssmde_ros.evaluation.protocol import Protocol, align_frame
from ssmde_ros.evaluation.ranges import RangeBin, RangeErrors
from ssmde_ros.evaluation.regions import FrameScore, Region, RegionScore, mean_regions, score_regions

Predictor = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
"""RGB image `[H, W, 3]` to positive depth `[h, w]`, as large as the image or smaller."""

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class LabelledFrame:
    """An image with what is known about it.

    Attributes:
        number: place in the image topic, from 0.
        image: as the camera sent it.
        truth: `[H, W]` metres, None where there is none at its time.
        moving: `[h, w]` bool, moving objects; None without a mask at its time.
    """

    number: int
    image: DecodedImage
    truth: NDArray[np.float32] | None
    moving: NDArray[np.bool_] | None

    def moving_like_truth(self) -> NDArray[np.bool_] | None:
        """The moving mask at the size of the truth. Raises ValueError when their aspects differ."""
        if self.moving is None or self.truth is None or self.moving.shape == self.truth.shape:
            return self.moving
        (rows, columns), (height, width) = self.moving.shape, self.truth.shape
        if abs(rows * width / columns - height) > 1:  # more than rounding
            raise ValueError(f"a moving mask of {columns}x{rows} does not fit ground truth of {width}x{height}")
        return cv2.resize(self.moving.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)


@dataclass(frozen=True)
class BagScore:
    """Scores over the frames that have ground truth.

    Attributes:
        regions: means by region.
        bins: errors by range, over all pixels of all frames.
        by_frame: number of the frame in its topic, to its score.
        without_truth, without_mask: frames without ground truth, and frames with truth but without a mask
            (these are in "full" alone).
    """

    regions: dict[Region, RegionScore]
    bins: list[RangeBin]
    by_frame: dict[int, FrameScore]
    without_truth: int
    without_mask: int

    @property
    def metrics(self) -> DepthMetrics:
        """Mean metrics on the full image."""
        full = self.regions["full"].metrics
        assert full is not None  # there is no score without a frame
        return full

    @property
    def frames(self) -> int:
        """How many frames were scored."""
        return self.regions["full"].frames


class _Nearest(Generic[_Value]):
    """The value of a topic nearest in time, within reach. Times asked for run forward, as the topic does."""

    def __init__(self, stamps: list[int], values: Iterator[tuple[int, _Value]], reach: float) -> None:
        self._stamps, self._values, self._reach = np.array(sorted(stamps)), values, reach
        self._at, self._current = next(values)

    def __call__(self, stamp: int) -> _Value | None:
        nearest = int(self._stamps[np.abs(self._stamps - stamp).argmin()])
        # The wanted value is the current one or still to come.
        while self._at < nearest and (upcoming := next(self._values, None)) is not None:
            self._at, self._current = upcoming
        return self._current if self._at == nearest and abs(self._at - stamp) <= self._reach else None


def labelled_frames(
    bag: Bag, image: Topic, depth_topic: str, mask_topic: str | None = None, wanted: Collection[int] | None = None
) -> Iterator[LabelledFrame]:
    """Images with the depth map and mask nearest in time, None where there is none within half a frame interval.

    Args:
        bag: open.
        image: topic of the pictures.
        depth_topic, mask_topic: of the ground truth, and of mono8 masks whose nonzero pixels move.
        wanted: numbers of frames in the image topic; None is all of them.

    Raises:
        BagError: missing, empty or damaged topics, or masks that are not mono8.
    """
    intervals = np.diff(sorted(_stamps(bag, image.name)))
    # The interval of the images themselves: other topics may start earlier or end later.
    reach = 0.5 * float(np.median(intervals)) if len(intervals) else 0.5e9
    truths = _Nearest(_known_stamps(bag, depth_topic), bag.depths(depth_topic), reach)
    masks = _Nearest(_known_stamps(bag, mask_topic), _masks(bag, mask_topic), reach) if mask_topic else None
    last = None if wanted is None else max(wanted, default=-1)
    for number, frame in enumerate(bag.images(image)):
        if last is not None and number > last:
            return
        if wanted is None or number in wanted:
            yield LabelledFrame(number, frame, truths(frame.stamp), masks(frame.stamp) if masks else None)


def _stamps(bag: Bag, topic: str) -> Iterator[int]:
    for _, message in bag.messages(topic):
        yield header_stamp(message)


def _known_stamps(bag: Bag, topic: str) -> list[int]:
    stamps = list(_stamps(bag, topic))
    if not stamps:
        raise BagError(f"bag {bag.path}: {topic} is empty")
    return stamps


def _masks(bag: Bag, topic: str) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Stamps (nanoseconds) and moving masks `[h, w]` bool."""
    for number, (_, message) in enumerate(bag.messages(topic)):
        # Compressed masks are refused too: JPEG leaves a halo of small nonzero values around every object.
        encoding = getattr(message, "encoding", "no raw image")
        if encoding not in ("mono8", "8UC1"):
            raise BagError(
                f"bag {bag.path}, {topic}, frame {number}: a moving mask is mono8, nonzero where it moves; this is {encoding}"
            )
        try:
            yield header_stamp(message), pixels(message, np.uint8, 1) != 0
        except ImageFormatError as error:
            raise BagError(f"bag {bag.path}, {topic}, frame {number}: {error}") from error


def score_bag(
    bag: Bag,
    image: Topic,
    depth_topic: str,
    predict: Predictor,
    protocol: Protocol,
    *,
    mask_topic: str | None = None,
    wanted: Collection[int] | None = None,
) -> BagScore:
    """Scores of the frames that have ground truth; arguments as for `labelled_frames`.

    Raises:
        BagError: missing or damaged topics, no frame with ground truth, or none of those with a mask.
        ValueError: a prediction that is no depth, or a mask that does not fit.
    """
    scores: dict[int, FrameScore] = {}
    ranges = RangeErrors(protocol.min_depth, protocol.max_depth)
    without_truth = without_mask = 0
    for frame in labelled_frames(bag, image, depth_topic, mask_topic, wanted):
        aligned = None if frame.truth is None else align_frame(predict(frame.image.image), frame.truth, protocol)
        if aligned is None:
            without_truth += 1
            continue
        without_mask += mask_topic is not None and frame.moving is None
        scores[frame.number] = score_regions(aligned, frame.moving_like_truth())
        ranges.add(aligned.prediction, aligned.truth)
    if not scores:
        raise BagError(f"bag {bag.path}: no frame of {image.name} has ground truth in {depth_topic} at its time")
    if mask_topic is not None and without_mask == len(scores):
        raise BagError(f"bag {bag.path}: no scored frame of {image.name} has a mask in {mask_topic} at its time")
    return BagScore(mean_regions(list(scores.values())), ranges.table(), scores, without_truth, without_mask)


def telling_frames(score: BagScore) -> dict[str, int]:
    """Numbers of the frames with the best, the median and the worst AbsRel; fewer when there are fewer frames."""
    order = sorted(score.by_frame, key=lambda number: score.by_frame[number].metrics["full"]["abs_rel"])
    places = {"best": 0, "median": len(order) // 2, "worst": len(order) - 1}
    if len(order) == 2:
        del places["median"]
    return {name: order[place] for name, place in places.items() if place or name == "best"}
