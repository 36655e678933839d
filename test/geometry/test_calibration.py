import pytest

from ssmde_ros.geometry import CameraCalibration, PinholeCamera

K = [500, 0, 320, 0, 510, 240, 0, 0, 1]
EYE = [1, 0, 0, 0, 1, 0, 0, 0, 1]


def make(**changes):
    values = {"size": (640, 480), "k": K, "d": [], "model": "plumb_bob", "r": EYE, "p": [0.0] * 12} | changes
    return CameraCalibration.create(**values)


def test_an_undistorted_camera_needs_no_rectification():
    calibration = make(d=[0.0] * 5)
    assert not calibration.needs_rectification
    assert calibration.rectified() == PinholeCamera(640, 480, 500, 510, 320, 240)


@pytest.mark.parametrize(
    "changes",
    [
        {"d": [0.1, 0, 0, 0, 0]},
        {"r": [0.0, 1, 0, -1, 0, 0, 0, 0, 1]},
        {"p": [450, 0, 320, 0, 0, 510, 240, 0, 0, 0, 1, 0]},
    ],
)
def test_distortion_rotation_and_another_projection_need_it(changes):
    assert make(**changes).needs_rectification


def test_region_of_interest_and_binning_move_and_scale_the_camera():
    p = [500, 0, 320, 0, 0, 510, 240, 0, 0, 0, 1, 0]
    cropped = make(p=p, offset=(100, 40), region=(400, 200), binning=(2, 2))
    assert (cropped.width, cropped.height) == (200, 100)
    assert cropped.k[:6] == (250, 0, 110, 0, 255, 100)
    assert cropped.rectified() == PinholeCamera(200, 100, 250, 255, 110, 100)


def test_an_all_zero_rotation_means_none():
    assert not make(r=[0.0] * 9).needs_rectification


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"k": [0.0] * 9}, "not calibrated"),
        ({"k": [float("nan")] * 9}, "not finite"),
        ({"size": (0, 0)}, "0x0"),
        ({"d": [0.1] * 5, "model": "magic"}, "unknown distortion model 'magic'"),
        ({"d": [0.1] * 3}, "coefficients"),
        ({"d": [0.1] * 5, "model": "equidistant"}, "4 coefficients"),
    ],
)
def test_unusable_calibrations_say_why(changes, reason):
    with pytest.raises(ValueError, match=reason):
        make(**changes)


def test_a_resized_calibration_sees_the_same_rays():
    k = (500.0, 0.0, 310.0, 0.0, 510.0, 236.0, 0.0, 0.0, 1.0)
    p = (480.0, 0.0, 315.0, -48.0, 0.0, 490.0, 238.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    calibration = CameraCalibration(640, 480, k, (-0.2, 0.1, 0.0, 0.0, 0.0), p=p)
    small = calibration.resized(320, 120)
    assert (small.width, small.height, small.d) == (320, 120, calibration.d)
    assert small.rectified() == calibration.rectified().resized(320, 120)
    assert small.k == pytest.approx((250.0, 0.0, 154.75, 0.0, 127.5, 58.625, 0.0, 0.0, 1.0))
    assert small.p[3] == -24.0, "the shift between two cameras, in pixels, shrinks with them"
    assert small.resized(640, 480).k == pytest.approx(calibration.k)
