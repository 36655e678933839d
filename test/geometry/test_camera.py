import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssmde_ros.geometry import PinholeCamera, back_project, pixel_rays, project


def test_ray_through_the_principal_point_is_the_optical_axis():
    camera = PinholeCamera(5, 5, 7.0, 9.0, 2.0, 3.0)
    rays = pixel_rays(camera.matrix(torch.float64)[None], 5, 5)
    assert rays[0, :, 3, 2].tolist() == [0.0, 0.0, 1.0]
    assert rays[0, :, 3, 4].tolist() == pytest.approx([2 / 7, 0, 1])


def test_rows_are_the_matrix():
    camera = PinholeCamera(5, 5, 7.0, 9.0, 2.0, 3.0)
    assert camera.matrix(torch.float64).tolist() == camera.rows() == [[7, 0, 2], [0, 9, 3], [0, 0, 1]]


def test_projection_undoes_back_projection():
    k = PinholeCamera(8, 6, 10.0, 11.0, 3.3, 2.2).matrix(torch.float64)[None]
    depth = torch.rand(1, 1, 6, 8, dtype=torch.float64) + 0.5
    pixels, z = project(back_project(depth, k), k)
    v, u = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    torch.testing.assert_close(pixels[0], torch.stack([u, v]).double())
    torch.testing.assert_close(z, depth)


def test_points_behind_the_camera_keep_their_sign():
    k = PinholeCamera(2, 2, 1.0, 1.0, 0.5, 0.5).matrix()[None]
    _, z = project(torch.full((1, 3, 2, 2), -1.0), k)
    assert (z < 0).all()


def test_back_projection_passes_gradcheck():
    k = PinholeCamera(3, 2, 2.0, 2.5, 1.0, 0.5).matrix(torch.float64)[None]
    depth = torch.rand(1, 1, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d: back_project(d + 1, k), depth)


@pytest.mark.parametrize("shape", [(6, 8), (1, 6, 8), (1, 2, 6, 8)])
def test_wrong_depth_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"\[B, 1, H, W\]"):
        back_project(torch.ones(shape), torch.eye(3)[None])


@given(
    width=st.integers(2, 4000),
    height=st.integers(2, 4000),
    new_width=st.integers(1, 4000),
    new_height=st.integers(1, 4000),
)
def test_resizing_keeps_the_image_borders_where_they_are(width, height, new_width, new_height):
    camera = PinholeCamera(width, height, 500.0, 600.0, width * 0.4, height * 0.6)
    small = camera.resized(new_width, new_height)

    def edges(c):
        return [
            (-0.5 - c.cx) / c.fx,
            (c.width - 0.5 - c.cx) / c.fx,
            (-0.5 - c.cy) / c.fy,
            (c.height - 0.5 - c.cy) / c.fy,
        ]

    assert edges(small) == pytest.approx(edges(camera), abs=1e-9)


def test_field_of_view_spans_the_image():
    camera = PinholeCamera.from_hfov(640, 480, math.pi / 2)
    assert camera.fx == pytest.approx(320)
    assert camera.cx == 319.5


@pytest.mark.parametrize(
    "values", [(0, 4, 1, 1, 0, 0), (4, 4, 0, 1, 0, 0), (4, 4, 1, -1, 0, 0), (4, 4, math.nan, 1, 0, 0)]
)
def test_impossible_cameras_are_refused(values):
    with pytest.raises(ValueError, match="camera"):
        PinholeCamera(*values)
