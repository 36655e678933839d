"""Scoring a depth predictor on the ground truth inside a bag."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ssmde_ros.data.bags import Bag, BagError, Topic, header_stamp
from ssmde_ros.data.images import DecodedImage
from ssmde_ros.evaluation.metrics import DepthMetrics
from ssmde_ros.evaluation.protocol import Protocol, evaluate_frame, mean_metrics

Predictor = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
"""RGB image `[H, W, 3]` to positive depth `[h, w]`, as large as the image or smaller."""


@dataclass(frozen=True)
class BagScore:
    """Mean metrics and the number of frames they are over."""

    metrics: DepthMetrics
    frames: int
    without_truth: int


def frames_with_truth(
    bag: Bag, image: Topic, depth_topic: str
) -> Iterator[tuple[DecodedImage, NDArray[np.float32] | None]]:
    """Images with the depth map nearest in time, None where there is none within half a frame interval."""
    truths = list(_stamps(bag, depth_topic))
    if not truths:
        raise BagError(f"bag {bag.path}: {depth_topic} is empty")
    stamps = np.array(sorted(truths))
    intervals = np.diff(sorted(_stamps(bag, image.name)))
    # The interval of the images themselves: other topics may start earlier or end later.
    reach = 0.5 * float(np.median(intervals)) if len(intervals) else 0.5e9
    depths = bag.depths(depth_topic)
    at, current = next(depths)
    for frame in bag.images(image):
        nearest = int(stamps[np.abs(stamps - frame.stamp).argmin()])
        # Both topics run forward in time: the wanted map is the current one or still to come.
        while at < nearest and (upcoming := next(depths, None)) is not None:
            at, current = upcoming
        yield frame, current if at == nearest and abs(at - frame.stamp) <= reach else None


def _stamps(bag: Bag, topic: str) -> Iterator[int]:
    for _, message in bag.messages(topic):
        yield header_stamp(message)


def score_bag(bag: Bag, image: Topic, depth_topic: str, predict: Predictor, protocol: Protocol) -> BagScore:
    """Per-frame metrics, averaged over the frames that have ground truth.

    Raises:
        BagError: missing or damaged topics, or no frame with ground truth.
    """
    scores, missing = [], 0
    for frame, truth in frames_with_truth(bag, image, depth_topic):
        metrics = evaluate_frame(predict(frame.image), truth, protocol) if truth is not None else None
        if metrics is None:
            missing += 1
        else:
            scores.append(metrics)
    if not scores:
        raise BagError(f"bag {bag.path}: no frame of {image.name} has ground truth in {depth_topic} at its time")
    return BagScore(mean_metrics(scores), len(scores), missing)
