import json

import pytest

from ssmde_ros.commands.bench_check import check, ratios, write_baseline
from ssmde_ros.commands.bench_live import summarise
from ssmde_ros.commands.bench_page import page
from ssmde_ros.commands.live import LiveResult
from ssmde_ros.errors import SsmdeError


def report(student=20.0, reference=100.0, cloud=1.0):
    row = {"median_ms": reference}
    return {
        "machine": "some processor", "threads": 2, "weights": "student.safetensors",
        "sizes": {"320x256": {"resnet18 torch eager": row, "student openvino fp32": {"median_ms": student}}},
        "stages": {"cloud_ms": {"median_ms": cloud}, "resnet18 torch eager_ms": row},
    }  # fmt: skip


def test_ratios_are_to_the_reference_of_the_same_run():
    assert ratios(report()) == {"320x256 student openvino fp32": 0.2, "cloud": 0.01}
    assert ratios(report(40.0, 200.0, 2.0)) == ratios(report())


@pytest.mark.parametrize(("changes", "good"), [({}, True), ({"student": 23.9}, True), ({"student": 24.1}, False),
                                               ({"cloud": 1.3}, False), ({"student": 2.0, "cloud": 0.1}, True)])  # fmt: skip
def test_slower_than_the_baseline_by_a_fifth_is_bad(tmp_path, changes, good):
    write_baseline(report(), tmp_path / "baseline.json")
    lines, found = check(report(**changes), tmp_path / "baseline.json")
    assert found == good
    assert any(line.endswith("slower") for line in lines) != good


def test_what_does_not_run_here_is_named_and_forgiven(tmp_path):
    write_baseline(report(), tmp_path / "baseline.json")
    other = report()
    del other["sizes"]["320x256"]["student openvino fp32"]
    lines, good = check(other, tmp_path / "baseline.json")
    assert good and lines[1].startswith("320x256 student openvino fp32") and lines[1].endswith("not run here")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        '{"ratios": {"cloud": 0}}',
        '{"ratios": {}}',
        '{"ratios": 3}',
        '{"ratios": {"cloud": "x"}}',
        '{"ratios": {"other": 1}}',
    ],
)
def test_what_is_no_baseline_is_refused_in_words(tmp_path, text):
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(SsmdeError, match="write one with --baseline"):
        check(report(), path)
    with pytest.raises(SsmdeError, match="none.json is no baseline"):
        check(report(), tmp_path / "none.json")


def test_a_baseline_says_where_it_was_measured(tmp_path):
    write_baseline(report(), tmp_path / "baseline.json")
    assert json.loads((tmp_path / "baseline.json").read_text())["machine"] == "some processor"


def test_the_page_shows_every_row_and_escapes_names():
    row = {"median_ms": 20.0, "p10_ms": 19.0, "p90_ms": 25.0, "speedup": 5.0, "gflops": 100.0, "share_of_peak": 0.5}
    full = report() | {"peak_gflops": 180.0, "fastest": "student <x>", "speedup_vs_reference": 5.0}
    full["sizes"] = {"320x256": {"resnet18 torch eager": row | {"median_ms": 100.0}, "student <x>": row}}
    full["stages"] = {"cloud_ms": row}
    drawn = page(full)
    assert "student <x>" not in drawn
    assert drawn.count("student &lt;x&gt;") == 3  # in the facts, beside its bar, in the table
    assert drawn.count("<rect") == 3 and "20.00 ms" in drawn and drawn.count("<svg") == 2


def test_what_came_before_the_camera_played_is_in_no_rate():
    second = 1_000_000_000
    stamps = [10 * second + n * second // 10 for n in range(5)]
    depths = [{"stamp": stamp, "mono": stamp + 1_000_000, "age": 1_000_000} for stamp in stamps]
    # The first answers a repetition of the first frame.
    points = [[second, second], *([stamp, stamp] for stamp in stamps)]
    received = {"depths": depths, "points": points, "diagnostics": {}}
    result = LiveResult({stamp: stamp for stamp in stamps}, received, {}, [1.0], 0.0, 0)
    told = summarise(result, with_points=True)
    assert told["depth_hz"] == told["points_hz"] == 10
    assert told["clouds"] == told["frames_out"] == 5
    assert told["latency_ms"]["p50"] == 1
