import pytest
import torch

from ssmde_ros.geometry import PinholeCamera, inverse, look, normals_from_depth, pixel_rays, sample, se3_exp

CAMERA = PinholeCamera(48, 36, 40.0, 42.0, 23.0, 18.5)
K = CAMERA.matrix(torch.float64)[None]
RAYS = pixel_rays(K, 36, 48)


def plane_depth(normal, distance):
    """Depth `[1, 1, H, W]` of the plane `n X = d` in the camera's frame: `d / (n ray)`."""
    return distance / (normal.reshape(1, 3, 1, 1) * RAYS).sum(1, keepdim=True)


def texture(points):
    """A smooth picture painted in space: the same point has the same color from everywhere."""
    x, y, z = points.unbind(1)
    return torch.stack([torch.sin(2 * x + z), torch.cos(3 * y), torch.sin(x - y + 2 * z)], 1) / 2 + 0.5


def scene(motion):
    """Target and source images and depths of one tilted, textured plane under `T_{t->s}`."""
    normal = torch.tensor([0.2, -0.1, 1.0], dtype=torch.float64)
    depth = plane_depth(normal, 4.0)
    # n X = d with X = R^T (X' - t) becomes (R n) X' = d + (R n) t.
    turned = motion[0, :3, :3] @ normal
    source_depth = plane_depth(turned, 4.0 + turned @ motion[0, :3, 3])
    back = inverse(motion)
    source_points = source_depth * RAYS
    in_target = (back[:, :3, :3] @ source_points.reshape(1, 3, -1) + back[:, :3, 3:]).reshape(1, 3, 36, 48)
    return texture(depth * RAYS), depth, texture(in_target), source_depth


@pytest.mark.parametrize("twist", [[0, 0, 0, 0, 0, 0], [0, 0, 0, 0.2, 0.1, 0.3], [0.03, -0.04, 0.05, -0.1, 0.2, -0.2]])
def test_a_textured_plane_warps_onto_itself(twist):
    motion = se3_exp(torch.tensor([twist], dtype=torch.float64))
    image, depth, source, source_depth = scene(motion)
    view = look(depth, motion, K)
    valid = view.valid.expand_as(image)
    assert view.valid.float().mean() > 0.7
    # Bilinear accuracy: a curvature of order one over a pixel of 0.1 m.
    assert (sample(source, view) - image)[valid].abs().max() < 0.02
    torch.testing.assert_close(
        sample(source_depth, view)[view.valid], view.computed_depth[view.valid], rtol=2e-3, atol=0
    )


def test_no_motion_is_the_identity():
    image = torch.rand(1, 3, 36, 48, dtype=torch.float64)
    view = look(torch.full((1, 1, 36, 48), 2.0, dtype=torch.float64), torch.eye(4, dtype=torch.float64)[None], K)
    assert view.valid.float().mean() > 0.95, "rounding may push the border out by 1e-15"
    torch.testing.assert_close(sample(image, view), image)


def test_masks_tell_outside_from_behind():
    depth = torch.full((1, 1, 36, 48), 2.0, dtype=torch.float64)
    forward = look(depth, se3_exp(torch.tensor([[0, 0, 0, 0, 0, -3.0]], dtype=torch.float64)), K)
    assert not forward.in_front.any()
    sideways = look(depth, se3_exp(torch.tensor([[0, 0, 0, 1.0, 0, 0]], dtype=torch.float64)), K)
    assert sideways.in_front.all()
    # One metre at two metres of depth is 20 pixels.
    assert sideways.in_view[0, 0, 10].tolist() == [u + 20 <= 47 for u in range(48)]


def test_another_source_camera_may_look():
    depth = torch.full((1, 1, 36, 48), 2.0, dtype=torch.float64)
    wide = K.clone()
    wide[:, 0, 0] /= 2
    view = look(depth, torch.eye(4, dtype=torch.float64)[None], K, wide)
    torch.testing.assert_close(view.pixels[0, 0, 0] - 23, (torch.arange(48).double() - 23) / 2)


def test_warping_passes_gradcheck_in_depth_and_motion():
    k = PinholeCamera(5, 4, 4.0, 4.0, 2.0, 1.5).matrix(torch.float64)[None]
    source = torch.rand(1, 2, 4, 5, dtype=torch.float64)
    depth = (torch.rand(1, 1, 4, 5, dtype=torch.float64) + 2).requires_grad_()
    twist = torch.tensor([[0.01, 0.02, 0.015, 0.11, -0.07, 0.05]], dtype=torch.float64, requires_grad=True)

    def synthesise(d, t):
        view = look(d, se3_exp(t), k)
        return sample(source, view), view.computed_depth

    assert torch.autograd.gradcheck(synthesise, (depth, twist))


def test_the_normal_of_a_plane_is_the_normal_of_the_plane():
    normal = torch.tensor([0.3, -0.4, 1.0], dtype=torch.float64)
    found = normals_from_depth(plane_depth(normal, 3.0), K)
    expected = (-normal / normal.norm()).reshape(1, 3, 1, 1).expand_as(found)
    torch.testing.assert_close(found, expected)


def test_normals_pass_gradcheck_and_refuse_a_line():
    k = PinholeCamera(4, 3, 4.0, 4.0, 1.5, 1.0).matrix(torch.float64)[None]
    depth = (torch.rand(1, 1, 3, 4, dtype=torch.float64) + 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: normals_from_depth(d, k), depth)
    with pytest.raises(ValueError, match="2x2"):
        normals_from_depth(torch.ones(1, 1, 1, 5), torch.eye(3)[None])
