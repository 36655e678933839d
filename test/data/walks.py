"""Cameras that walk past points, and the tracks they see."""

from itertools import pairwise

import cv2
import numpy as np
import torch
from hypothesis import strategies as st

from ssmde_ros.data.clip import Clip
from ssmde_ros.data.tracks import Track
from ssmde_ros.geometry import PinholeCamera

PIXEL = 1 / 500  # of a camera with 500 pixels of focal length
FRAMES = 12
seeds = st.integers(0, 10_000)


def pose(turn=(0, 0, 0), shift=(0, 0, 0)):
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = cv2.Rodrigues(np.asarray(turn, float))[0], shift
    return motion


def walk(frames=FRAMES, stride=0.25):
    """Camera to world of a walk past things: sideways with a sway, looking about."""
    steps = np.arange(frames)
    turns = np.column_stack([0.02 * np.sin(steps / 2), 0.08 * np.sin(steps / 3), 0.01 * np.cos(steps)])
    places = np.column_stack([stride * steps, 0.1 * np.sin(steps), 0.15 * stride * steps])
    return np.stack([pose(turn, place) for turn, place in zip(turns, places, strict=True)])


def turn_round(frames=FRAMES):
    """Camera to world of a quarter of a circle around things, looking at them."""
    angles = np.linspace(0, np.pi / 2, frames)
    return np.stack([pose((0, -a, 0), (4 * np.sin(a), 0.1 * np.sin(3 * a), 4 - 4 * np.cos(a))) for a in angles])


def things(rng, count, low=(-3, -2, 3), high=(6, 2, 8)):
    return rng.uniform(low, high, (count, 3))


def tracked(rng, points, poses, noise=0.0, velocity=(0, 0, 0), first=0, least=3):
    """Tracks of points `[N, 3]` that move by `velocity` a frame, seen by frames `first` and on, and who is who."""
    tracks, who = [], []
    steps = np.arange(len(poses))[:, None] * np.asarray(velocity, float)
    for number, point in enumerate(points):
        here = np.einsum("kji,kj->ki", poses[:, :3, :3], point + steps - poses[:, :3, 3])
        image = here[:, :2] / np.where(here[:, 2:] > 0.2, here[:, 2:], np.nan)
        seen = np.flatnonzero((np.abs(image) < 0.7).all(1))
        if len(seen) >= least:
            tracks.append(Track(first + seen, image[seen] + rng.normal(0, noise, (len(seen), 2))))
            who.append(number)
    return tracks, who


def by_frame(poses):
    return dict(enumerate(poses))


def shaken(rng, poses, turn, shift):
    return np.stack([p @ pose(rng.normal(0, turn, 3), rng.normal(0, shift, 3)) for p in poses])


def drifting(rng, poses, turn, share, still=0.0):
    """Odometry of poses: each step turns by `turn` too much or little and errs by a `share` of its way."""
    found = [poses[0]]
    for a, b in pairwise(poses):
        step = np.linalg.inv(a) @ b
        way = np.linalg.norm(step[:3, 3])
        angles = cv2.Rodrigues(step[:3, :3])[0].ravel()
        angles = angles * (1 + rng.normal(0, turn)) + rng.normal(0, still, 3)
        found.append(found[-1] @ pose(angles, step[:3, 3] + share * way * rng.normal(0, 1, 3) / np.sqrt(3)))
    return np.stack(found)


def turned(a, b):
    """Degrees between two rotations."""
    return np.degrees(np.linalg.norm(cv2.Rodrigues(a[:3, :3].T @ b[:3, :3])[0]))


def fitted(found, truth):
    """Scale, and the largest error in degrees and metres, of poses laid onto the true ones (Umeyama 1991)."""
    frames = sorted(found)
    a, b = (np.stack([p[f] for f in frames]) for p in (found, truth))
    here, there = a[:, :3, 3] - a[:, :3, 3].mean(0), b[:, :3, 3] - b[:, :3, 3].mean(0)
    # Places alone do not tell a roll about a straight path: directions of view have a say.
    looks = [p[:, :3, :3].transpose(0, 2, 1).reshape(-1, 3) * np.abs(there).max() for p in (a, b)]
    u, _, v = np.linalg.svd(np.concatenate([there, looks[1]]).T @ np.concatenate([here, looks[0]]))
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v
    scale = float((there * (here @ rotation.T)).sum() / (here**2).sum())
    places = np.linalg.norm(scale * here @ rotation.T - there, axis=1)
    turns = [turned(rotation @ p[:3, :3], q[:3, :3]) for p, q in zip(a, b, strict=True)]
    return scale, max(turns), places.max()


def step_errors(found, truth, gap=1):
    """Mean error of the motions over `gap` frames: degrees, and metres."""
    pairs = [(a, a + gap) for a in range(len(truth) - gap)]
    steps = [[np.linalg.inv(p[b]) @ p[a] for a, b in pairs] for p in (found, truth)]
    turns = [turned(a, b) for a, b in zip(*steps, strict=True)]
    shifts = [np.linalg.norm(a[:3, 3] - b[:3, 3]) for a, b in zip(*steps, strict=True)]
    return np.mean(turns), np.mean(shifts)


def clip_of(frames, poses=None, known=None):
    camera = PinholeCamera(32, 32, 30.0, 30.0, 15.5, 15.5)
    known = np.ones(frames, bool) if poses is not None and known is None else known
    stamps = np.arange(frames, dtype=np.int64)
    images = torch.zeros(frames, 3, 32, 32, dtype=torch.uint8)
    return Clip("points", images, camera, stamps, [str(s) for s in stamps], poses=poses, pose_known=known)
