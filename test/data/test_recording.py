"""Recordings of any length: whole when short, windows when long, in order of time whatever the file says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rosbags.rosbag2 import CompressionMode

from ssmde_ros.data.bags import Bag
from ssmde_ros.data.clip import ClipConfig, ClipError
from ssmde_ros.data.recording import RecordingConfig, load_recording, plan_windows, split
from test.data.test_bags import camera, image, write
from test.data.test_salvage import storage_file

SMALL = {"width": 32, "height": 32}


def numbered(count):
    """Frames of a camera at 10 Hz; the grey value tells the number."""
    topics = camera(count)
    for number, picture in enumerate(topics["/cam/image"]):
        picture.data = np.full_like(picture.data, number % 250)
    return topics


def numbers(clip):
    return [int(image[0, 0, 0]) for image in clip.images]


def test_a_short_bag_is_one_clip_of_all_its_frames(tmp_path):
    found = load_recording(ClipConfig(write(tmp_path / "bag", numbered(40)), **SMALL))
    assert [numbers(clip) for clip in found.clips] == [list(range(40))]
    assert found.frames == 40
    assert found.frame_id == "cam"
    assert found.lost == 0


def test_a_long_bag_is_read_in_windows_all_over_it_by_several_processes(tmp_path):
    config = RecordingConfig(max_frames=40, window_frames=10, workers=2)
    found = load_recording(ClipConfig(write(tmp_path / "bag", numbered(200)), **SMALL), config)
    assert len(found.clips) == 4
    for clip in found.clips:
        assert np.diff(numbers(clip)).tolist() == [1] * (len(clip) - 1)
        assert 8 <= len(clip) <= 11
    assert numbers(found.clips[0])[0] == 0
    assert numbers(found.clips[-1])[-1] == 199


def test_a_fast_camera_is_thinned_out(tmp_path):
    found = load_recording(ClipConfig(write(tmp_path / "bag", numbered(40)), **SMALL), RecordingConfig(max_rate=5.0))
    assert numbers(found.clips[0]) == list(range(0, 40, 2))


def test_stamps_out_of_order_are_sorted_and_repeated_ones_dropped(tmp_path):
    topics = numbered(12)
    pictures = topics["/cam/image"]
    pictures[3].header.stamp, pictures[4].header.stamp = pictures[4].header.stamp, pictures[3].header.stamp
    pictures[8].header.stamp = pictures[7].header.stamp
    (clip,) = load_recording(ClipConfig(write(tmp_path / "bag", topics), **SMALL)).clips
    assert numbers(clip) == [0, 1, 2, 4, 3, 5, 6, 7, 9, 10, 11]
    assert (np.diff(clip.stamps) > 0).all()


def test_a_truncated_bag_gives_its_readable_part_and_says_so(tmp_path, caplog):
    topics = numbered(60)
    for picture in topics["/cam/image"]:
        picture.data[6:] = np.random.default_rng(0).integers(0, 255, len(picture.data) - 6)
    path = write(tmp_path / "bag", topics)
    file = storage_file(path)
    # All is in one chunk: cut the index off, the messages stay.
    file.write_bytes(file.read_bytes()[:-300])
    found = load_recording(ClipConfig(path, **SMALL))
    assert numbers(found.clips[0]) == list(range(60))
    assert any("breaks off" in note for note in found.damage)
    assert "what is whole is used" in caplog.text


def test_a_frame_of_another_size_is_left_out(tmp_path):
    topics = numbered(12)
    topics["/cam/image"][5] = image(topics["/cam/image"][5].header.stamp.sec * 10**9 + 5 * 10**8, "mono8")
    topics["/cam/image"][5].width = topics["/cam/image"][5].step = 4
    found = load_recording(ClipConfig(write(tmp_path / "bag", topics), **SMALL))
    assert numbers(found.clips[0]) == [n for n in range(12) if n != 5]
    assert found.lost == 1


def test_a_bag_without_pictures_says_so(tmp_path):
    with pytest.raises(ClipError, match="no image topic"):
        load_recording(ClipConfig(write(tmp_path / "bag", {"/camera_info": camera()["/cam/camera_info"]}), **SMALL))


@given(st.floats(1, 1e5), st.integers(8, 10**6), st.integers(1, 4))
def test_windows_lie_inside_the_bag_and_hold_no_more_than_is_asked_for(duration, count, stride):
    config, start = RecordingConfig(max_frames=300, window_frames=30), 10**18
    windows = plan_windows(start, duration, count, stride, config)
    end = start + round(duration * 1e9) + 1
    assert all(start <= w.start < w.stop <= end for w in windows)
    length = sum(w.stop - w.start for w in windows)
    assert length / (end - start) * count / stride <= config.max_frames * 1.01 + 1


def test_the_tail_of_a_clip_or_every_nth_window_is_held_out(tmp_path):
    whole = load_recording(ClipConfig(write(tmp_path / "bag", numbered(40)), **SMALL)).clips
    learn, judge = split(whole, 0.25)
    assert [numbers(c) for c in learn] == [list(range(28))]
    assert [numbers(c) for c in judge] == [list(range(30, 40))]
    learn, judge = split([whole[0].part(4 * i, 4 * i + 4) for i in range(10)], 0.2)
    assert len(judge) == 2
    assert len(learn) == 8


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reading_that_is_told_to_stop_stops_after_the_piece_it_is_at(tmp_path, workers):
    class EnoughError(Exception):
        pass

    calls = []

    def proceed():
        calls.append(1)
        if len(calls) == 2:
            raise EnoughError

    config = RecordingConfig(max_frames=40, window_frames=10, workers=workers)
    with pytest.raises(EnoughError):
        load_recording(ClipConfig(write(tmp_path / "bag", numbered(200)), **SMALL), config, proceed)
    assert len(calls) == 2


def test_a_bag_of_compressed_files_is_unpacked_twice_and_not_for_each_window(tmp_path, monkeypatch):
    path = write(tmp_path / "bag", numbered(200), mode=CompressionMode.FILE)
    opened, begin = [], Bag.__init__

    def counted(self, *args, **kwargs):
        opened.append(1)
        begin(self, *args, **kwargs)

    monkeypatch.setattr(Bag, "__init__", counted)
    config = RecordingConfig(max_frames=40, window_frames=10, workers=2)
    found = load_recording(ClipConfig(path, **SMALL), config)
    assert len(found.clips) == 4
    assert len(opened) == 2, "once to look, once to read"


def test_what_a_damaged_bag_lost_is_counted_once_however_many_windows_read_it(tmp_path):
    topics = numbered(200)
    for picture in topics["/cam/image"][:3]:
        picture.data = picture.data[:0]
    path = write(tmp_path / "bag", topics)
    file = storage_file(path)
    file.write_bytes(file.read_bytes()[:-300])  # its index
    whole = load_recording(ClipConfig(path, **SMALL), RecordingConfig(max_frames=1500))
    parts = load_recording(ClipConfig(path, **SMALL), RecordingConfig(max_frames=40, window_frames=10))
    assert len(whole.clips) == 1
    assert len(parts.clips) > 2
    assert parts.lost == whole.lost == 3
