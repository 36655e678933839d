from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch

from ssmde_ros.data.augmentation import augment_color, borrow_look
from ssmde_ros.data.synthetic import SyntheticWorld, WorldConfig
from ssmde_ros.data.synthetic.city import queue
from ssmde_ros.data.synthetic.dataset import SameSizeBatches, SampleKey, SyntheticDepthDataset
from ssmde_ros.data.synthetic.render import cast, intersect, solid_at
from ssmde_ros.data.synthetic.scene import CameraPath, Light, Material, Palette, Plane, Scene, Solid, box, inside
from ssmde_ros.data.synthetic.textures import LEVELS, sample_texture
from ssmde_ros.geometry import PinholeCamera, back_project, project

CAMERA = PinholeCamera(64, 48, 50.0, 50.0, 31.5, 23.5)
GREY = Material((0.4, 0.4, 0.4), (0.6, 0.6, 0.6), 0, 1.0)
SUN = Light((0.0, -1.0, 0.0), False, 0.5)
REST = CameraPath((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.0, 0.0, 0.0)


def rays_of(camera):
    from ssmde_ros.geometry import pixel_rays

    return pixel_rays(camera.matrix()[None], camera.height, camera.width)[0]


def test_a_wall_has_the_same_depth_everywhere():
    wall = Scene([Plane((0, 0, 4.0), (0, 0, -1.0), GREY)], [], SUN, REST)
    hits = cast(wall, 0.0, torch.eye(4), rays_of(CAMERA), CAMERA.matrix())
    torch.testing.assert_close(hits.depth, torch.full((48, 64), 4.0))


def test_the_ground_follows_its_closed_form():
    height = 1.5
    ground = Scene([Plane((0, height, 0), (0, -1.0, 0), GREY)], [], SUN, REST)
    hits = cast(ground, 0.0, torch.eye(4), rays_of(CAMERA), CAMERA.matrix())
    v = torch.arange(48.0)
    expected = torch.where(v > CAMERA.cy, CAMERA.fy * height / (v - CAMERA.cy), torch.inf)
    torch.testing.assert_close(hits.depth[:, 10], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["box", "ellipsoid"])
def test_the_nearest_point_of_a_solid_ahead(kind):
    solid = Solid(kind, (0.0, 0.0, 5.0), (1.0, 0.5, 2.0), GREY)
    entry, leave = intersect(solid, solid.centre, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]).reshape(3, 1))
    assert (entry.item(), leave.item()) == pytest.approx((3.0, 7.0))
    entry, leave = intersect(solid, solid.centre, torch.zeros(3), torch.tensor([1.0, 0.0, 0.1]).reshape(3, 1))
    assert entry.item() > leave.item(), "a miss"


def test_a_turned_box_shows_its_corner():
    solid = Solid("box", (0.0, 0.0, 5.0), (1.0, 1.0, 1.0), GREY, yaw=float(np.pi / 4))
    entry, _ = intersect(solid, solid.centre, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]).reshape(3, 1))
    assert entry.item() == pytest.approx(5 - 2**0.5, abs=1e-5)


def test_skipping_pixels_that_cannot_see_a_solid_changes_nothing():
    world = SyntheticWorld(WorldConfig("room", 4, CAMERA))
    pose = torch.eye(4)
    pose[:3, 3] = torch.tensor(world.scene.path.start)
    rays = rays_of(CAMERA)
    fast = cast(world.scene, 0.3, pose, rays, CAMERA.matrix())
    slow = cast(world.scene, 0.3, pose, rays, None)
    assert torch.equal(fast.depth, slow.depth)
    assert torch.equal(fast.index, slow.index)


@pytest.mark.parametrize("kind", ["street", "room", "city", "terrain", "table"])
def test_the_same_seed_gives_the_same_frame_and_another_one_another(kind):
    first, again, other = (SyntheticWorld(WorldConfig(kind, seed, CAMERA)).render(0.4) for seed in (5, 5, 6))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.depth, again.depth)
    assert not torch.equal(first.image, other.image)
    assert first.image.shape == (3, 48, 64)
    assert first.image.min() >= 0
    assert first.image.max() <= 1


def test_depth_pose_and_intrinsics_agree_between_frames():
    """Static surfaces seen in one frame lie where the next frame says, up to occlusion."""
    world = SyntheticWorld(WorldConfig("room", 11, PinholeCamera(160, 120, 130.0, 130.0, 79.5, 59.5)))
    a, b = world.render(0.0), world.render(0.2)
    motion = torch.linalg.inv(b.pose) @ a.pose
    points = back_project(a.depth[None], a.intrinsics[None])
    moved = (motion[:3, :3] @ points.reshape(3, -1) + motion[:3, 3:]).reshape(1, 3, 120, 160)
    pixels, z = project(moved, b.intrinsics[None])
    grid = torch.stack([pixels[:, 0] / 159 * 2 - 1, pixels[:, 1] / 119 * 2 - 1], -1)
    seen = torch.nn.functional.grid_sample(b.depth[None], grid, mode="nearest", align_corners=True)
    inside = (grid.abs() < 1).all(-1)[:, None] & (z > 0) & ~a.moving[None]
    error = ((seen - z).abs() / z)[inside]
    assert inside.float().mean() > 0.5
    assert error.median() < 0.01
    assert (error < 0.05).float().mean() > 0.9


def test_moving_objects_are_marked_and_do_move():
    camera = PinholeCamera(160, 120, 130.0, 130.0, 79.5, 59.5)
    worlds = [SyntheticWorld(WorldConfig("street", seed, camera)) for seed in range(12)]
    frames = [world.render(0.0) for world in worlds]
    assert sum(bool(frame.moving.any()) for frame in frames) >= 3
    walker = box((0.0, 6.0), 0.0, (1.0, 2.0, 1.0), GREY, v=(1.0, 0.0, 0.0))
    scene = Scene([], [walker], SUN, REST)
    pose = torch.eye(4)
    columns = [
        cast(scene, t, pose, rays_of(CAMERA), None).index.ge(0).nonzero()[:, 1].float().mean() for t in (0.0, 1.0)
    ]
    # One metre to the right at about 5.5 m of depth.
    assert (columns[1] - columns[0]).item() == pytest.approx(50.0 / 5.5, rel=0.15)


def test_a_distorted_lens_is_undone_by_its_own_calibration():
    lens = (-0.25, 0.06, 0.001, -0.001, 0.0)
    camera = PinholeCamera(240, 180, 190.0, 190.0, 119.5, 89.5)
    plain = SyntheticWorld(WorldConfig("room", 8, camera, noise=0, blur=1.0)).render(0.0)
    bent = SyntheticWorld(WorldConfig("room", 8, camera, lens, noise=0, blur=1.0)).render(0.0)
    k = camera.matrix().double().numpy()
    maps = cv2.initUndistortRectifyMap(k, np.array(lens), np.eye(3), k, (240, 180), cv2.CV_32FC1)
    straight = cv2.remap(bent.image.permute(1, 2, 0).numpy(), *maps, cv2.INTER_LINEAR)
    middle = (slice(20, -20), slice(20, -20))
    off = np.abs(straight - plain.image.permute(1, 2, 0).numpy())[middle].mean()
    before = np.abs(bent.image - plain.image).permute(1, 2, 0).numpy()[middle].mean()
    assert off < 0.25 * before


def test_far_textures_fade_to_their_mean():
    u = torch.rand(500)
    index = torch.full((500,), 10)
    near = sample_texture(index, u, u * 7, torch.full_like(u, 1e-4))
    far = sample_texture(index, u, u * 7, torch.full_like(u, 10.0))
    assert near.std() > 0.3
    assert far.std() < 0.05
    assert LEVELS == 8


@pytest.mark.parametrize("changes", [{"kind": "moon"}, {"noise": -1.0}])
def test_impossible_worlds_are_refused(changes):
    with pytest.raises(ValueError, match="must"):
        WorldConfig(**changes)


def test_augmentation_is_repeatable_and_keeps_the_shape():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    first, again = (augment_color(image, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    assert not np.array_equal(first, image)


@pytest.mark.parametrize("seed", range(6))
def test_vehicles_of_a_lane_do_not_touch_and_those_ahead_stay_ahead(seed):
    palette = Palette(np.random.default_rng(seed))
    vehicles = [s for s in queue(palette, 3.2, 5.0, 70.0, 4.0, (1.5, 10.0)) if s.half[1] > 0.3 and s.half[2] > 1.5]
    bodies = sorted((s.centre[2] - s.half[2], s.centre[2] + s.half[2]) for s in vehicles)
    merged = [bodies[0]]
    for tail, nose in bodies[1:]:  # a cabin stands on its body: what overlaps by half is one vehicle
        if tail < merged[-1][1] - 0.5:
            merged[-1] = (min(tail, merged[-1][0]), max(nose, merged[-1][1]))
        else:
            merged.append((tail, nose))
    assert len(merged) > 3 and merged[0][0] > 4.7
    assert all(1.2 < later[0] - earlier[1] < 10.5 for earlier, later in pairwise(merged))


@pytest.mark.parametrize("kind", ["terrain", "table", "city"])
def test_the_camera_stands_and_goes_in_nothing(kind):
    for seed in range(25):
        scene = SyntheticWorld(WorldConfig(kind, seed, CAMERA)).scene
        for time in (0.0, 0.5, 1.0, 2.0) if kind != "table" else (0.0,):
            x, y, z = (s + v * time for s, v in zip(scene.path.start, scene.path.velocity, strict=True))
            # Where a moving one is at that time; overhead crowns and decks are above.
            held = [
                s for s in scene.solids
                if inside((x, y, z), replace(s, centre=solid_at(s, time)), 0.0) and (kind == "city" or not s.moving)
            ]  # fmt: skip
            assert held == []


def test_a_borrowed_look_brings_the_colors_of_the_photograph_and_leaves_the_edges():
    rng = np.random.default_rng(0)
    image = np.full((64, 96, 3), 90, np.uint8)
    image[:, 48:] = 170  # one edge, in the middle
    photograph = (rng.normal((200, 120, 60), 15, (64, 96, 3))).clip(0, 255).astype(np.uint8)
    look = borrow_look(image, photograph, 0.01).astype(float)
    np.testing.assert_allclose(look.mean((0, 1)), photograph.mean((0, 1)), atol=6)
    assert look[:, 50].mean() - look[:, 45].mean() > 40


def test_low_frequencies_of_a_look_are_borrowed_in_both_directions_and_high_ones_are_not():
    rows, columns = np.mgrid[:64, :96]
    rng = np.random.default_rng(1)
    image = rng.integers(60, 200, (64, 96, 3)).astype(np.uint8)

    def amplitude(picture, row, column):
        return np.abs(np.fft.fft2(picture[..., 0].astype(float))[row, column])

    for row, column, low in ((2, 1, True), (-2, 1, True), (2, 0, True), (0, 2, True), (12, 1, False), (1, 20, False)):
        wave = 128 + 100 * np.cos(2 * np.pi * (row * rows / 64 + column * columns / 96))
        photograph = np.repeat(wave[..., None], 3, 2).clip(0, 255).astype(np.uint8)
        look = borrow_look(image, photograph, 0.05)  # 3 rows and 5 columns of frequencies
        expected = amplitude(photograph if low else image, row, column)
        assert amplitude(look, row, column) == pytest.approx(expected, rel=0.1)


def test_a_photograph_of_another_shape_lends_no_look():
    with pytest.raises(ValueError, match="photograph"):
        borrow_look(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8), 0.01)


def test_dataset_frames_take_looks_only_when_augmented(tmp_path):
    keys = [SampleKey(1, False)]
    red = np.zeros((20, 30, 3), np.uint8)
    red[..., 0] = 255
    plain, _ = SyntheticDepthDataset(keys, tmp_path, augment=False, looks=[red])[0]
    again, _ = SyntheticDepthDataset(keys, tmp_path, augment=False)[0]
    assert torch.equal(plain, again)
    torch.manual_seed(0)
    painted = SyntheticDepthDataset(keys, tmp_path, augment=True, looks=[red])
    shares = [float(frame[0].float().mean() / frame.float().mean()) for frame, _ in (painted[0] for _ in range(12))]
    assert max(shares) > 1.8  # red alone would be 3, unpainted near 1
    assert min(shares) < 1.3


def test_dataset_draws_once_and_reads_from_then_on(tmp_path, monkeypatch):
    keys = [SampleKey(1, False), SampleKey(2, True)]
    dataset = SyntheticDepthDataset(keys, tmp_path, augment=False)
    image, depth = dataset[1]
    assert image.shape == (3, 160, 512)
    assert depth.shape == (1, 160, 512)
    assert image.dtype == torch.uint8
    monkeypatch.setattr(SampleKey, "draw", lambda self: pytest.fail("drawn twice"))
    again, _ = dataset[1]
    assert torch.equal(image, again)


def test_batches_hold_one_size_and_have_an_order_per_epoch():
    keys = [SampleKey(i, i % 3 == 0) for i in range(30)]
    batches = SameSizeBatches(keys, 4)
    first = list(batches)
    assert len(first) == len(batches) == 7
    assert all(len({keys[i].wide for i in batch}) == 1 for batch in first)
    batches.set_epoch(1)
    assert list(batches) != first
    batches.set_epoch(0)
    assert list(batches) == first
