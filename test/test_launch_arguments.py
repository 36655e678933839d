import pytest

from ssmde_ros import launch_arguments
from ssmde_ros.errors import SsmdeError
from ssmde_ros.launch_arguments import cameras_of, overrides_of

NAMES = ("cameras", "image", "camera_info", "weights", "generations", "engine", "device", "precision", "image_transport",
         "threads")  # fmt: skip
NOTHING = dict.fromkeys(NAMES, "") | {"image": "image", "use_sim_time": "false"}


@pytest.mark.parametrize(
    ("cameras", "found"), [("", [""]), ("front", ["front"]), (" front, /rear/ ,", ["front", "rear"]), ("/", [""])]
)
def test_cameras_are_namespaces(cameras, found):
    assert cameras_of(NOTHING | {"cameras": cameras}) == found


def test_one_camera_may_have_a_topic_of_any_name_and_several_none_in_common():
    assert cameras_of(NOTHING | {"image": "/camera/image_raw"}) == [""]
    for topic in ("image", "camera_info"):
        with pytest.raises(SsmdeError, match=f"{topic}:=/camera/x would be the same topic"):
            cameras_of(NOTHING | {"cameras": "front,rear", topic: "/camera/x"})
    with pytest.raises(SsmdeError, match="names one twice"):
        cameras_of(NOTHING | {"cameras": "front,rear,front/"})


def test_only_what_is_given_overrides_the_parameter_file():
    assert overrides_of(NOTHING, 1) == {"use_sim_time": False}
    given = {
        "weights": "latest",
        "engine": "torch",
        "precision": "fp32",
        "generations": "runs/robot",
        "threads": "3",
        "use_sim_time": "True",
    }
    assert overrides_of(NOTHING | given, 2) == given | {"threads": 3, "use_sim_time": True}


def test_several_cameras_share_the_cores(monkeypatch):
    monkeypatch.setattr(launch_arguments.os, "cpu_count", lambda: 8)
    assert overrides_of(NOTHING, 3) == {"use_sim_time": False, "threads": 2}
    assert overrides_of(NOTHING, 20)["threads"] == 1


def test_threads_are_a_number():
    with pytest.raises(SsmdeError, match="threads:=two is no number"):
        overrides_of(NOTHING | {"threads": "two"}, 1)
