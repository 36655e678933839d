"""`ssmde eval` with masks, slices, protocols and reports, on bags of a few tiny frames."""

import json
import re

import cv2
import numpy as np
import pytest

from ssmde_ros.cli import main
from ssmde_ros.commands.evaluate import chosen_frames
from ssmde_ros.commands.report import FramePicture, Report, markdown, page, write_report
from ssmde_ros.commands.report_drawing import color_error, depth_legend, draw_frame, error_legend, range_plot
from ssmde_ros.data.bags import Bag
from ssmde_ros.errors import SsmdeError
from ssmde_ros.evaluation import Protocol, RangeBin, RegionScore, align_frame
from ssmde_ros.evaluation.bag import BagScore, labelled_frames, score_bag, telling_frames
from test.data.test_bags import camera, image, write

STAMPS = [10**9 + i * 10**8 for i in range(4)]


def depth(stamp, metres):
    made = image(stamp, "16UC1")
    made.data = (np.asarray(metres) * 1000).astype(np.uint16).reshape(-1).view(np.uint8)
    return made


def mask(stamp, columns):
    made = image(stamp, "mono8", 0)
    made.data.reshape(6, 8)[:, :columns] = 200
    return made


@pytest.fixture
def drive(tmp_path):
    """Four frames, a wall at 4 m; in the last two, two columns of it move and stand at 2 m. No mask for the first."""
    walls = [np.full((6, 8), 4.0) for _ in STAMPS]
    for wall in walls[2:]:
        wall[:, :2] = 2.0
    topics = camera(4) | {
        "/depth": [depth(s, w) for s, w in zip(STAMPS, walls, strict=True)],
        "/moving": [mask(STAMPS[1] + 10**7, 0), mask(STAMPS[2], 2), mask(STAMPS[3], 2)],
    }
    return write(tmp_path / "drive", topics)


def evaluate(bag, *words, capsys):
    status = main(["eval", "--bag", str(bag), "--constant", *words])
    streams = capsys.readouterr()
    return status, streams.out, re.sub(r"[^\r\n]*\r|eval:[^\n]*\n?", "", streams.err)


def test_regions_of_a_bag_with_masks(drive, capsys):
    status, out, _ = evaluate(drive, "--mask-topic", "/moving", "--json", capsys=capsys)
    told = json.loads(out)
    assert status == 0
    regions = told["regions"]
    assert {name: (r["frames"], r["pixels"]) for name, r in regions.items()} == {
        "full": (4, 4 * 48), "static": (3, 48 + 2 * 36), "dynamic": (2, 2 * 12),
    }  # fmt: skip
    assert told["frames_without_mask"] == 1
    assert regions["static"]["abs_rel"] == 0
    assert regions["dynamic"]["abs_rel"] == pytest.approx(1)
    assert regions["full"]["abs_rel"] == told["abs_rel"] == pytest.approx((0 + 0 + 0.25 + 0.25) / 4)
    assert sum(b["pixels"] for b in told["bins"]) == regions["full"]["pixels"]
    assert told["bins"][0]["bias"] == pytest.approx(np.log(2), abs=1e-3)


def test_only_the_frames_of_the_slice_are_scored(drive, capsys):
    for text, frames, error in (("--frames=-2:", 2, 0.25), ("--frames=:2", 2, 0.0), ("--frames=1:3", 2, 0.125)):
        told = json.loads(evaluate(drive, "--image-topic", "/cam/image", text, "--json", capsys=capsys)[1])
        assert (told["frames"], told["frames_without_truth"], told["abs_rel"]) == (frames, 0, pytest.approx(error))
        assert set(told["regions"]) == {"full"}


def test_a_slice_means_what_it_means_in_python():
    for text, expected in (("3:5", [3, 4]), ("-2:", [8, 9]), (":-8", [0, 1]), ("8:99", [8, 9]), (":", range(10))):
        assert list(chosen_frames(text, 10)) == list(expected)
    for text in ("5", "a:b", "1:2:3", "", "1.5:2"):
        with pytest.raises(SsmdeError, match="must look like A:B"):
            chosen_frames(text, 10)


def test_single_values_override_the_preset(drive, capsys):
    words = ("--image-topic", "/cam/image", "--json")
    told = json.loads(evaluate(drive, "--protocol", "tum", *words, capsys=capsys)[1])
    assert told["protocol"] == {"name": "tum", "align": "median", "crop": "none", "min_depth": 0.1, "max_depth": 10}
    changed = ("--protocol", "nyu", "--max-depth", "3", "--align", "affine")
    told = json.loads(evaluate(drive, *changed, *words, capsys=capsys)[1])
    expected = {"name": "nyu, changed", "align": "affine", "crop": "nyu", "min_depth": 0.1, "max_depth": 3}
    assert told["protocol"] == expected
    assert told["frames"] == 2
    told = json.loads(evaluate(drive, "--max-depth", "5", *words, capsys=capsys)[1])
    assert told["protocol"]["name"] == "custom"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--frames", "9"], "--frames must look like A:B (0:50, 100:, =-100:), got '9'"),
        (["--frames", "7:9"], "--frames 7:9 selects none of the 4 frames"),
        (["--protocol", "kiti"], "unknown protocol 'kiti'; known are kitti, nyu, ddad, bonn, tum, none"),
        (["--protocol", "tum", "--min-depth", "20"], "need 0 < min_depth < max_depth"),
        (["--max-depth", "inf"], "need 0 < min_depth < max_depth, finite"),
        (["--mask-topic", "/masks"], "has no image topic /masks; of that kind it has /cam/image, /moving"),
        (["--mask-topic", "/depth"], "has no image topic /depth"),
        (["--mask-topic", "/cam/image", "--image-topic", "/moving"], "a moving mask is mono8, nonzero where it moves; this is rgb8"),
        (["--mask-topic", "/moving", "--frames", "0:1"], "no scored frame of /cam/image has a mask in /moving"),
        (["--report", "FILE", "--image-topic", "/cam/image"], "cannot be written"),
    ],
)  # fmt: skip
def test_bad_requests_are_one_line(drive, tmp_path, words, reason, capsys):
    (tmp_path / "file").write_text("")
    words = [str(tmp_path / "file") if word == "FILE" else word for word in words]
    if "--image-topic" not in words and "--mask-topic" not in words:
        words += ["--image-topic", "/cam/image"]
    status, out, error = evaluate(drive, *words, capsys=capsys)
    assert (status, out) == (1, "")
    assert reason in error
    assert error.startswith("ssmde: ")
    assert error.count("\n") == 1


def test_a_mask_that_cannot_belong_to_the_truth_is_refused(tmp_path, capsys):
    tall = mask(STAMPS[0], 2)
    tall.height, tall.width, tall.step = 8, 6, 6
    bag = write(tmp_path / "bag", camera(2) | {"/depth": [depth(STAMPS[0], np.ones((6, 8)))], "/moving": [tall]})
    status, _, error = evaluate(bag, "--mask-topic", "/moving", capsys=capsys)
    assert status == 1
    assert "a moving mask of 6x8 does not fit ground truth of 8x6" in error


def test_a_smaller_mask_is_enlarged_without_new_values(tmp_path):
    small = mask(STAMPS[0], 0)
    small.height, small.width, small.step, small.data = 3, 4, 4, np.eye(3, 4, dtype=np.uint8).reshape(-1)
    bag = write(tmp_path / "bag", camera(1) | {"/depth": [depth(STAMPS[0], np.ones((6, 8)))], "/moving": [small]})
    with Bag(bag) as opened:
        topic = opened.choose("image", "/cam/image", "")
        (frame,) = labelled_frames(opened, topic, "/depth", "/moving")
    expected = np.kron(np.eye(3, 4), np.ones((2, 2))).astype(bool)
    assert (frame.moving_like_truth() == expected).all()


def test_best_median_and_worst_are_found(drive):
    with Bag(drive) as bag:
        topic = bag.choose("image", "/cam/image", "")

        def picked(frames):
            return telling_frames(score_bag(bag, topic, "/depth", lambda _: np.ones((6, 8)), Protocol(), wanted=frames))

        assert picked([0]) == {"best": 0}
        assert picked([1, 3]) == {"best": 1, "worst": 3}
        assert picked([3, 0, 2]) == {"best": 0, "median": 2, "worst": 3}


def test_the_report_holds_the_numbers_and_the_pictures(drive, tmp_path, capsys):
    folder = tmp_path / "made" / "report"
    words = ("--mask-topic", "/moving", "--report", str(folder), "--protocol", "bonn", "--json")
    status, out, _ = evaluate(drive, *words, capsys=capsys)
    told = json.loads(out)
    assert (status, told["report"]) == (0, str(folder / "report.html"))
    names = {path.name for path in folder.iterdir()}
    pictures = {"best_frame.jpg", "median_frame.jpg", "worst_frame.jpg"}
    drawings = {"error_by_range.svg", "depth_colors.svg", "error_colors.svg"}
    assert names == {"report.html", "report.md"} | pictures | drawings  # and no temporary file
    assert all(cv2.imread(str(folder / name)) is not None for name in pictures)
    text, html = (folder / "report.md").read_text(), (folder / "report.html").read_text()
    for body in (text, html):
        for region in told["regions"].values():
            assert f"{region['abs_rel']:.4f}" in body
            assert str(region["pixels"]) in body
        assert "+100." in body  # the bias of the near bin: twice as far
        assert all(word in body for word in ("constant", "bonn", "drive", "magenta", "worst: frame 3"))
    assert all(f"]({name})" in text for name in pictures | drawings)
    assert html.count("data:image/jpeg;base64,") == 3
    assert not re.search(r'(src|href)="(?!data:)', html)  # nothing outside the file


def a_report(name):
    perfect = dict.fromkeys(("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "d1", "d2", "d3"), 0.5)
    bins = [RangeBin(1, 1.4, 5, 0.25, 1.0, 0.1), RangeBin(1.4, 2, 0, None, None, None), RangeBin(2, 2.8, 5, 0.5, 0, -1)]
    regions = {"full": RegionScore(perfect, 1, 10), "dynamic": RegionScore(None, 0, 0)}
    picture = FramePicture("best_frame", f"best: {name}", b"jpeg")
    return Report({"weights": name}, BagScore(regions, bins, {}, 0, 0), [picture], (1.0, 10.0))


def test_names_are_escaped():
    report = a_report('<script>alert("1|2")</script> `x`')
    html = page(report, {"error_by_range": "", "depth_colors": "", "error_colors": ""})
    assert "<script" not in html
    assert "&lt;script&gt;alert(&quot;1|2&quot;)" in html
    told = markdown(report)
    assert "<script" not in told
    assert r'| weights | &lt;script&gt;alert("1\|2")&lt;/script&gt; \`x\` |' in told
    assert "| dynamic | 0 | 0 |" + " – |" * 8 in told


def test_a_failing_report_leaves_the_old_one(tmp_path, monkeypatch):
    write_report(tmp_path, a_report("first"))
    before = (tmp_path / "report.html").read_text()
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path, a_report("second"))
    assert (tmp_path / "report.html").read_text() == before


def test_drawings_are_well_formed():
    import xml.etree.ElementTree as ElementTree

    report = a_report("x")
    for drawing in (range_plot(report.score.bins), depth_legend((0.5, 80)), depth_legend((3.9, 4.1)), error_legend()):
        assert ElementTree.fromstring(drawing).tag.endswith("svg")
    plot = range_plot(report.score.bins)
    assert all(f">{label}<" in plot for label in ("0.25", "0.50", "+11", "-63", "1.00"))


def test_error_colors_mean_what_the_legend_says():
    far, right, near, unknown = color_error(np.log([[2.0, 1.0, 0.5, np.nan]]))[0].astype(int)
    assert far[2] > far[0] + 100
    assert near[0] > near[2] + 100
    assert right.min() > 240
    assert len(set(unknown.tolist())) == 1


def test_a_frame_picture_shows_four_panels_and_outlines_what_moves():
    truth = np.full((6, 8), 4.0)
    truth[0] = 0
    moving = np.zeros((6, 8), bool)
    moving[2:5, 2:5] = True
    frame = align_frame(np.full((6, 8), 4.0), truth, Protocol("none"))
    pixels = np.full((6, 8, 3), 90, np.uint8)
    plain = draw_frame(pixels, frame, truth, None, (1, 10))
    assert plain.shape == (960, 1280, 3)
    assert (plain[900, 1000] > 240).all()
    outlined = draw_frame(pixels, frame, truth, moving, (1, 10))
    assert outlined[480 * 3 // 6 - 40, 640 * 2 // 8 + 40].tolist() == [255, 0, 255]
    assert (outlined[480:] == plain[480:]).all()
