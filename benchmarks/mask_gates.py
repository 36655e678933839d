"""Every gate of the multi-view mask on a frame of a real recording, as a picture.

    python benchmarks/mask_gates.py recipes/kitti_traffic.yaml --frame 30 --out docs/images/mask_gates.png

Recording, working size and gates are those of the configuration; camera motion comes from visual odometry, its scale from
the teacher. Green pixels pass a gate in at least one of the two neighbouring frames.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ssmde_ros.commands.pictures import Picture, titled, write_picture
from ssmde_ros.data.triplets import Batch, TripletConfig, Triplets
from ssmde_ros.networks import PoseNet, load_depth_net
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime.color import color_depth
from ssmde_ros.training.config import read_config
from ssmde_ros.training.ego_motion import ego_motion
from ssmde_ros.training.mask_filter import MaskResult, filter_mask
from ssmde_ros.training.run import prepare
from ssmde_ros.training.teacher import Teacher

GREEN, RED, BLUE = (60, 200, 60), (40, 40, 220), (220, 130, 20)  # BGR
TITLES = {
    "view": "in view",
    "geometry": "depths of both views agree",
    "photometry": "looks alike when warped",
    "features": "features alike",
    "flow": "flow leaves nothing over",
}


def batch_of(samples: Triplets, frame: int) -> Batch:
    """The sample whose target is the given frame."""
    for number in range(len(samples.targets)):
        order = np.random.default_rng([samples.config.seed, 0]).permutation(len(samples.targets))
        if samples.targets[order[number]][1] == frame:
            return samples.batch(number)
    raise SystemExit(f"frame {frame} has no neighbours; choose one in 1 to {len(samples.targets)}")


def painted(image: Picture, mask: NDArray[np.bool_], color: tuple[int, int, int]) -> Picture:
    """The image in grey, with the mask in color."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    return np.where(mask[..., None], (0.55 * grey + 0.45 * np.array(color)).astype(np.uint8), grey)


def sheet(image: Picture, depth: NDArray[np.float32], result: MaskResult) -> Picture:
    """Image, depth, each gate, and what comes out."""

    def flat(mask: torch.Tensor) -> NDArray[np.bool_]:
        return np.asarray(mask[0].any(0).numpy(), bool)

    colored = color_depth(depth, *np.percentile(depth, [2, 95]))
    tiles = [titled(image, "target"), titled(colored, "teacher")]
    for name, passed in result.passed.items():
        tiles.append(titled(painted(image, flat(passed), GREEN), f"{TITLES[name]}: {result.gates[name]:.0%}"))
    kept = painted(image, flat(result.mask), GREEN)
    tiles.append(titled(kept, f"mask: {result.gates['kept']:.0%} kept"))
    moving = painted(image, flat(result.moving), RED)
    moving[flat(result.dynamic)] = (0.5 * moving[flat(result.dynamic)] + 0.5 * np.array(BLUE)).astype(np.uint8)
    tiles.append(titled(moving, "moving (red), dynamic-reliable (blue)"))
    tiles += [np.zeros_like(image)] * (-len(tiles) % 3)
    return np.vstack([np.hstack(tiles[i : i + 3]) for i in range(0, len(tiles), 3)])


def main() -> None:
    """Filter one frame and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="of a training run; see recipes/")
    parser.add_argument("--frame", type=int, default=30, help="target (%(default)s)")
    parser.add_argument("--gap", type=int, default=1, help="frames between target and sources (%(default)s)")
    parser.add_argument("--weights", type=Path, help="the teacher (the shipped student)")
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    options = parser.parse_args()
    plain = {"gaps": [options.gap], "flip": False, "zoom": 0.0, "roll": 0.0, "tilt": 0.0, "jitter": 0.05}
    config = read_config(options.config, {"triplets": plain})
    clips, _ = prepare(config)
    batch = batch_of(
        Triplets(clips[:1], TripletConfig(gaps=(options.gap,), flip=False, jitter=0.05), 1, 1), options.frame
    )
    teacher = Teacher(load_depth_net(options.weights or default_weights())[0], 1.0)
    with torch.inference_mode():
        views = teacher.look(batch)
        motion = ego_motion(PoseNet().eval(), batch, views.depth, config.pose.min_points)
        sources = batch.frames[:, 1:].unbind(1)
        result = filter_mask(
            config.mask, batch.frames[:, 0], sources, motion.motions.unbind(1), batch.intrinsics, views
        )
    image = (255 * batch.frames[0, 0].permute(1, 2, 0).numpy()[..., ::-1]).astype(np.uint8)
    write_picture(options.out, sheet(image, views.depth[0, 0].numpy(), result))
    print({name: round(value, 3) for name, value in result.gates.items()}, f"motion known: {motion.from_aid:.0%}")


if __name__ == "__main__":
    main()
