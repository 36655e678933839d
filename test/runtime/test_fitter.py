import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmde_ros.geometry import CameraCalibration, Rectifier
from ssmde_ros.runtime.fitter import ImageFitter


def smooth(width, height):
    """A picture without anything that a smaller one could not show."""
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def off(a, b):
    return np.abs(a.astype(int) - b).mean()


@given(st.tuples(st.integers(33, 1300), st.integers(33, 800)), st.sampled_from([(320, 256), (512, 160), (96, 64)]))
def test_any_camera_fits_any_network(source, size):
    image = smooth(*source)
    small = ImageFitter(source, size)(image)
    assert small.shape == (size[1], size[0], 3)
    area = cv2.INTER_AREA if source[0] > size[0] else cv2.INTER_LINEAR
    assert off(small, cv2.resize(image, size, interpolation=area)) < 4


def test_fine_detail_is_averaged_and_not_skipped():
    stripes = np.zeros((480, 1280, 3), np.uint8)
    stripes[:, ::4] = 255  # one bright column in four: a quarter of the light
    small = ImageFitter((1280, 480), (320, 256))(stripes)
    assert abs(small.mean() - 255 / 4) < 4
    assert small.std() < 8


@pytest.mark.parametrize("source", [(640, 480), (1280, 960), (2600, 480)])
def test_rectified_and_shrunk_in_one_step_as_in_two(source):
    width, height = source
    k = (0.8 * width, 0.0, 0.48 * width, 0.0, 0.8 * width, 0.52 * height, 0.0, 0.0, 1.0)
    calibration = CameraCalibration(width, height, k, (-0.15, 0.05, 0.001, -0.002, 0.0))
    image = smooth(width, height)
    small = ImageFitter(source, (320, 256), calibration)(image)
    wanted = cv2.resize(Rectifier(calibration)(image), (320, 256), interpolation=cv2.INTER_AREA)
    straight = cv2.resize(image, (320, 256), interpolation=cv2.INTER_AREA)
    assert off(small, wanted) < 1.5 < off(straight, wanted)


@pytest.mark.parametrize("zoom", [1.0, 0.7, 0.5])
def test_a_wider_rectified_view_skips_no_pixels_either(zoom):
    k = (500.0, 0.0, 319.5, 0.0, 500.0, 239.5, 0.0, 0.0, 1.0)
    p = (500.0 * zoom, 0.0, 319.5, 0.0, 0.0, 500.0 * zoom, 239.5, 0.0, 0.0, 0.0, 1.0, 0.0)
    stripes = np.zeros((480, 640, 3), np.uint8)
    stripes[:, ::4] = 255
    calibration = CameraCalibration(640, 480, k, (1e-6, 0.0, 0.0, 0.0, 0.0), p=p)
    middle = ImageFitter((640, 480), (320, 256), calibration)(stripes)[100:150, 120:200]
    assert abs(middle.mean() - 255 / 4) < 6


@pytest.mark.parametrize(
    "view", [lambda x: x[:, ::-1], lambda x: np.frombuffer(x.tobytes(), np.uint8).reshape(x.shape)]
)
def test_what_fits_already_is_what_torch_takes(view):
    image = smooth(320, 256)
    small = ImageFitter((320, 256), (320, 256))(view(image))
    assert small.flags.c_contiguous and small.flags.writeable
    assert np.array_equal(small, view(image))
    assert ImageFitter((320, 256), (320, 256))(image) is image, "no copy without a need"


def test_what_the_lens_does_not_see_is_marked_at_the_size_of_the_network():
    k = (300.0, 0.0, 319.5, 0.0, 300.0, 239.5, 0.0, 0.0, 1.0)
    calibration = CameraCalibration(640, 480, k, (0.3, 0.1, 0.0, 0.0, 0.0))
    small, full = ImageFitter((640, 480), (320, 256), calibration), Rectifier(calibration)
    shrunk = cv2.resize(full.unknown, (320, 256), interpolation=cv2.INTER_NEAREST)
    assert small.unknown.shape == (256, 320)
    assert (small.unknown != shrunk).mean() < 0.02 < small.unknown.mean()
    assert ImageFitter((640, 480), (320, 256)).unknown is None
