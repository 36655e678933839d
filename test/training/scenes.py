"""Tiny recordings for training tests."""

import numpy as np
import torch

from ssmde_ros.data.clip import Clip
from ssmde_ros.data.synthetic import SyntheticWorld, WorldConfig
from ssmde_ros.data.synthetic.clips import true_motions
from ssmde_ros.data.triplets import TrainingClip
from ssmde_ros.geometry import PinholeCamera


def rendered_clip(frames=5, size=(96, 64), kind="room", seed=3, interval=0.2):
    """A synthetic recording with its truth."""
    camera = PinholeCamera(*size, 0.8 * size[0], 0.8 * size[0], (size[0] - 1) / 2, (size[1] - 1) / 2)
    world = SyntheticWorld(WorldConfig(kind, seed, camera, noise=0.0))
    drawn = [world.render(i * interval) for i in range(frames)]
    return Clip(
        f"{kind}{seed}",
        torch.stack([(f.image * 255).round().to(torch.uint8) for f in drawn]),
        camera,
        np.arange(frames) * 200_000_000,
        [str(i) for i in range(frames)],
        poses=torch.stack([f.pose for f in drawn]).double().numpy(),
        pose_known=np.ones(frames, bool),
        depth=torch.stack([f.depth for f in drawn]),
        moving=torch.stack([f.moving for f in drawn]),
    )


def training_clip(**options):
    """A recording with known motion and perfect pseudo-depth."""
    clip = rendered_clip(**options)
    return TrainingClip(clip, true_motions(clip), 1 / clip.depth.clamp(max=100.0))


def still_clip(image, frames=5, size=(96, 64)):
    """The same picture again and again; `image` `[3, H, W]` uint8."""
    camera = PinholeCamera(*size, 80.0, 80.0, (size[0] - 1) / 2, (size[1] - 1) / 2)
    stamps = np.arange(frames) * 100_000_000
    return TrainingClip(
        Clip("still", image.expand(frames, -1, -1, -1).clone(), camera, stamps, [str(i) for i in range(frames)])
    )
