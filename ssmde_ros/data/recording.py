"""A recording of any length as clips of bounded memory: all of a short one, windows all over a long one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from multiprocessing import get_context

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from ssmde_ros.data.bags import Bag, Topic
from ssmde_ros.data.clip import Clip, ClipConfig, ClipError, ClipReader, load_clip
from ssmde_ros.data.sources import is_bag
from ssmde_ros.geometry import CameraCalibration

_log = logging.getLogger(__name__)

_MARGIN = 500_000_000  # nanoseconds
_TASK_FRAMES = 200  # that are worth starting another process for


@dataclass(frozen=True)
class RecordingConfig:
    """How much of a recording is read.

    Attributes:
        max_frames: frames kept in memory, whatever the length; 320x256 pixels and a tracking image are half a megabyte.
        window_frames: consecutive frames of each piece of a longer recording.
        max_rate: frames a second at most; faster cameras are read with gaps.
        workers: processes that decode; 0 is one per core.
    """

    max_frames: int = 1500
    window_frames: int = 60
    max_rate: float = 15.0
    workers: int = 0

    def __post_init__(self) -> None:
        if self.window_frames < 8 or self.max_frames < self.window_frames:
            raise ValueError("recording: window_frames must be at least 8, max_frames at least window_frames")
        if self.max_rate <= 0 or self.workers < 0:
            raise ValueError("recording: max_rate must be positive, workers not negative")


@dataclass
class Recording:
    """What was read.

    Attributes:
        clips: pieces without interruption, in order of time.
        frame_id: optical frame of the images.
        lost: messages that could not be read, and `damage`, why, one line each.
        frames: images of the whole recording.
        spans: recording times that the clips cover, nanoseconds.
    """

    clips: list[Clip]
    frame_id: str = ""
    lost: int = 0
    damage: list[str] = field(default_factory=list)
    frames: int = 0
    spans: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class _Window:
    """A stretch of recording time, nanoseconds: `start` included, `stop` not; `clip` numbers the piece it belongs to."""

    start: int
    stop: int
    clip: int


@dataclass
class _Piece:
    """What one task read of a window; the clip comes without its images."""

    window: _Window
    clip: Clip | None
    images: NDArray[np.uint8] | None
    frame_id: str
    lost: int
    damage: list[str]


def load_recording(
    clip: ClipConfig, config: RecordingConfig | None = None, proceed: Callable[[], None] = lambda: None
) -> Recording:
    """Read a bag, a video or a folder of images; a bag is salvaged where it is damaged.

    Args:
        proceed: called after each piece that was read; what it raises ends the reading.

    Raises:
        ClipError: nothing to learn from in it.
        BagError, SourceError: nothing readable.
    """
    config = config or RecordingConfig()
    if not is_bag(clip.path):
        whole = load_clip(replace(clip, last=clip.last if clip.last is not None else clip.first + config.max_frames))
        if clip.last is None and len(whole) >= config.max_frames:
            _log.warning(
                "%s: only the first %d frames are read; recording.max_frames reads more, and of a bag "
                "(ssmde bag from-video) pieces from all over it are read",
                clip.path, len(whole),
            )  # fmt: skip
        return Recording([whole], frames=len(whole))
    with Bag(clip.path, salvage=True) as bag:
        topic = bag.choose("image", clip.image_topic, "--image-topic")
        if topic is None:
            raise ClipError(f"bag {clip.path} has no image topic")
        info = bag.camera_info_for(topic, clip.camera_info_topic)
        calibration = bag.calibration(info, topic.name) if info else None
        stride = max(1, round(topic.rate / config.max_rate))
        windows = plan_windows(bag.start, bag.duration, topic.count, stride, config)
        if len({window.clip for window in windows}) > 1:
            _log.info(
                "%s: of %d images %d pieces of %d are read, evenly spread; recording.max_frames reads more",
                clip.path, topic.count, len(windows), config.window_frames,
            )  # fmt: skip
        # Whoever opens such a bag reads all of it first: once is enough.
        alone = bag.packed or bool(bag.damage.notes)
    pieces = list(_read(clip, topic, calibration, stride, windows, 1 if alone else config.workers, proceed))
    lost = sum(piece.lost for piece in pieces)
    notes = list(dict.fromkeys(note for piece in pieces for note in piece.damage))
    if notes:
        _log.warning(
            "%s is damaged, what is whole is used: %s (%d messages skipped)", clip.path, "; ".join(notes), lost
        )
    clips = [joined for number in sorted({w.clip for w in windows}) if (joined := _joined(pieces, number)) is not None]
    if not clips:
        raise ClipError(f"{clip.path} gives no three readable frames in a row" + "".join(f"; {n}" for n in notes))
    frame_id = next((p.frame_id for p in pieces if p.frame_id), "")
    return Recording(clips, frame_id, lost, notes, topic.count, _spans(windows))


def plan_windows(start: int, duration: float, count: int, stride: int, config: RecordingConfig) -> list[_Window]:
    """Which stretches of a bag to read.

    Args:
        start: recording time of the first message, nanoseconds.
        duration: seconds.
        count: images.
        stride: every how many-th image is used.

    Returns:
        All of a short recording, in parts for the workers; evenly spread windows of a long one.
    """
    end, frames = start + round(duration * 1e9) + 1, max(1, count // stride)
    if frames <= config.max_frames:
        parts = max(1, frames // _TASK_FRAMES)
        edges = [start + (end - start) * part // parts for part in range(parts + 1)]
        return [_Window(a, b, 0) for a, b in pairwise(edges)]
    length = round((end - start) * config.window_frames / frames)
    count = config.max_frames // config.window_frames
    starts = [start + (end - length - start) * number // max(1, count - 1) for number in range(count)]
    return [_Window(s, s + length, number) for number, s in enumerate(starts)]


def _spans(windows: list[_Window]) -> list[tuple[int, int]]:
    """Times of the windows, with a margin for messages of other topics, one after the other."""
    spans: list[tuple[int, int]] = []
    for window in windows:
        start, stop = window.start - _MARGIN, window.stop + _MARGIN
        if spans and start <= spans[-1][1]:
            start = spans.pop()[0]
        spans.append((start, stop))
    return spans


def _read(
    clip: ClipConfig,
    topic: Topic,
    calibration: CameraCalibration | None,
    stride: int,
    windows: list[_Window],
    workers: int,
    proceed: Callable[[], None],
) -> Iterator[_Piece]:
    workers = min(workers or os.cpu_count() or 1, len(windows))
    bar = tqdm(total=len(windows), desc=f"reading {clip.path.name}", unit="piece", disable=None, delay=2.0)
    if workers == 1:
        with Bag(clip.path, salvage=True) as bag:
            for window in windows:
                yield _read_window(bag, clip, topic, calibration, stride, window)
                bar.update()
                proceed()
        return
    # Spawned, not forked: this process may already run torch's threads.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting: list[Future[_Piece]] = [
            pool.submit(_open_and_read, clip, topic, calibration, stride, window) for window in windows
        ]
        try:
            for done in waiting:
                yield done.result()
                bar.update()
                proceed()
        finally:
            pool.shutdown(cancel_futures=True)  # else whoever stops here waits for the whole recording


def _open_and_read(
    config: ClipConfig, topic: Topic, calibration: CameraCalibration | None, stride: int, window: _Window
) -> _Piece:
    with Bag(config.path, salvage=True) as bag:
        return _read_window(bag, config, topic, calibration, stride, window)


def _read_window(
    bag: Bag, config: ClipConfig, topic: Topic, calibration: CameraCalibration | None, stride: int, window: _Window
) -> _Piece:
    # What was lost on opening counts for the first piece.
    before = bag.damage.lost if window.clip or window.start > bag.start else 0
    reader = ClipReader(config, calibration, tracking=True)
    for number, frame in enumerate(bag.images(topic, window.start, window.stop)):
        if number % stride:
            continue
        try:
            reader.add(frame)
        except ClipError as error:  # one frame of another size
            bag.damage.lost += 1
            bag.damage.note(str(error))
            if reader.full is None:
                raise
    lost, notes = bag.damage.lost - before, list(bag.damage.notes)
    try:
        clip = reader.clip()
    except ClipError:
        clip = None
    # As an array: tensors travel between processes through shared memory, of which containers have little.
    pixels = None if clip is None else clip.images.numpy()
    plain = None if clip is None else replace(clip, images=torch.empty(0))
    return _Piece(window, plain, pixels, reader.frame_id, lost, notes)


def _joined(pieces: list[_Piece], number: int) -> Clip | None:
    """The frames of one clip in order of time, each stamp once."""
    mine = [piece for piece in pieces if piece.window.clip == number and piece.clip is not None]
    parts = [piece.clip for piece in mine if piece.clip is not None]
    if not parts:
        return None
    stamps = np.concatenate([part.stamps for part in parts])
    _, order = np.unique(stamps, return_index=True)  # sorted by time, the first of equal ones
    grey = [image for part in parts for image in part.tracking]
    names = [name for part in parts for name in part.names]
    if len(order) < 3:
        return None
    return replace(
        parts[0],
        name=parts[0].name if number == 0 else f"{parts[0].name}-{number}",
        images=torch.from_numpy(np.concatenate([piece.images for piece in mine if piece.images is not None])[order]),
        stamps=stamps[order],
        names=[names[i] for i in order],
        tracking=[grey[i] for i in order],
    )


def split(clips: list[Clip], share: float, margin: int = 2) -> tuple[list[Clip], list[Clip]]:
    """Clips to learn from, and clips to be judged by.

    Several windows: every n-th is held out, so that all of the recording is judged. One clip: its tail.

    Args:
        share: of the frames that are held out, in (0, 1).
        margin: frames between the two parts of one clip that are in neither.
    """
    if len(clips) >= 5:
        every = min(max(2, round(1 / share)), len(clips))
        held = set(range(every - 1, len(clips), every))
        return [c for i, c in enumerate(clips) if i not in held], [c for i, c in enumerate(clips) if i in held]
    learn, judge = [], []
    for clip in clips:
        cut = len(clip) - max(3, round(share * len(clip)))
        if cut - margin >= 3:
            learn.append(clip.part(0, cut - margin))
            judge.append(clip.part(cut, len(clip)))
        else:
            learn.append(clip)
    return learn, judge
