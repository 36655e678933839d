"""What the pose network makes of a recording whose camera motion is known.

    python benchmarks/pose_net.py ../shared/data/kitchen --odometry /odom --out docs/images/pose_net.png

Prints medians over the recording and draws a pair: the flow it found, and the parallax that no turning camera explains.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ssmde_ros.commands.pictures import Picture, titled, write_picture
from ssmde_ros.data.clip import Clip, ClipConfig, load_clip
from ssmde_ros.networks import PoseNet, load_pose_net
from ssmde_ros.resources import pose_weights

YELLOW, RED = (40, 220, 240), (60, 60, 240)  # BGR


def angle(rotation: Tensor) -> Tensor:
    """Degrees `[N]` of rotations `[N, 3, 3]`."""
    trace = rotation.diagonal(dim1=1, dim2=2).sum(1)
    return torch.rad2deg(torch.arccos(((trace - 1) / 2).clamp(-1, 1)))


def scores(net: PoseNet, clip: Clip, gap: int, step: int) -> dict[str, float]:
    """Medians over pairs of frames `gap` apart: the turn and what is wrong with it, the travel's error in direction; degrees."""
    pairs = [(t, t + gap) for t in range(0, len(clip) - gap, step) if clip.motion(t, t + gap) is not None]
    true = torch.from_numpy(np.stack([clip.motion(*pair) for pair in pairs])).float()
    frames = clip.images.float() / 255
    lens = clip.camera.matrix()[None].float().expand(len(pairs), -1, -1)
    with torch.inference_mode():
        found = net(frames[[t for t, _ in pairs]], frames[[s for _, s in pairs]], lens)
    cosine = torch.nn.functional.cosine_similarity(found[:, :3, 3], true[:, :3, 3])
    return {
        "pairs": len(pairs),
        "turn": angle(true[:, :3, :3]).median().item(),
        "turn_error": angle(found[:, :3, :3].mT @ true[:, :3, :3]).median().item(),
        "travel_error": torch.rad2deg(torch.arccos(cosine.clamp(-1, 1))).median().item(),
    }


def arrows(
    image: Picture, flow: Tensor, lens: NDArray[np.float64], color: tuple[int, int, int], length: float
) -> Picture:
    """The image with one arrow for every other place of the flow `[2, h, w]`, image plane units."""
    drawn = image.copy()
    rows, columns = flow.shape[1:]
    sx, sy = image.shape[1] / columns, image.shape[0] / rows
    for y in range(1, rows, 2):
        for x in range(1, columns, 2):
            start = ((x + 0.5) * sx, (y + 0.5) * sy)
            end = (
                start[0] + length * float(flow[0, y, x]) * lens[0, 0],
                start[1] + length * float(flow[1, y, x]) * lens[1, 1],
            )
            cv2.arrowedLine(
                drawn, tuple(map(round, start)), tuple(map(round, end)), color, 1, cv2.LINE_AA, tipLength=0.25
            )
    return drawn


def sheet(net: PoseNet, clip: Clip, frame: int, gap: int) -> Picture:
    """Target, source, flow, parallax."""
    pair = clip.images[[frame, frame + gap]].float() / 255
    lens = clip.camera.matrix().numpy()
    with torch.inference_mode():
        reading = net.read(pair[:1], pair[1:], clip.camera.matrix()[None].float())
    zoom = 480 / clip.camera.width
    size = (480, round(clip.camera.height * zoom))
    views = [cv2.resize((i.permute(1, 2, 0).numpy()[..., ::-1] * 255).astype(np.uint8), size) for i in pair]
    grey = (0.6 * cv2.cvtColor(cv2.cvtColor(views[0], cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)).astype(np.uint8)
    tiles = [
        titled(views[0], "target"),
        titled(views[1], f"source, {gap} frames later"),
        titled(arrows(grey, reading.flow[0], zoom * lens, YELLOW, 1.0), "flow"),
        titled(
            arrows(grey, reading.parallax[0], zoom * lens, RED, 3.0),
            "parallax: flow that no turn and no plane explains, x3",
        ),
    ]
    return np.vstack([np.hstack(tiles[:2]), np.hstack(tiles[2:])])


def main() -> None:
    """Score and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--odometry", default="auto", help="topic with the camera's poses (%(default)s)")
    parser.add_argument("--weights", type=Path, help="pose network (the shipped one)")
    parser.add_argument("--size", type=int, nargs=2, default=(192, 160), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--gaps", type=int, nargs="+", default=[4, 8], help="frames between target and source")
    parser.add_argument("--frame", type=int, default=170, help="target of the picture (%(default)s)")
    parser.add_argument("--out", type=Path, help="picture to write")
    options = parser.parse_args()
    net = load_pose_net(options.weights or pose_weights())
    clip = load_clip(ClipConfig(options.recording, *options.size, odometry=options.odometry), tracking=False)
    for gap in options.gaps:
        found = scores(net, clip, gap, step=5)
        print(
            f"{gap} frames apart, {found['pairs']} pairs: turned by {found['turn']:.1f} degrees, error "
            f"{found['turn_error']:.1f}; direction of travel off by {found['travel_error']:.0f} degrees (medians)"
        )
    if options.out:
        write_picture(options.out, sheet(net, clip, options.frame, options.gaps[-1]))


if __name__ == "__main__":
    main()
