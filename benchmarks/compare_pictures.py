r"""Depth of several weights side by side on frames of a recording, median-scaled to the last.

    python benchmarks/compare_pictures.py ../shared/data/kitti_traffic --frames 5 25 45 --out out.png \
        --weights start=models/student-tiny.safetensors SS-MDE=runs/kitti_traffic/student.safetensors

Rows are frames, columns the image and each of the weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from ssmde_ros.commands.pictures import titled, write_picture
from ssmde_ros.data.clip import ClipConfig, load_clip
from ssmde_ros.networks import load_depth_net
from ssmde_ros.runtime.color import color_depth


@torch.inference_mode()
def main() -> None:
    """One row per frame, one column per weights file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path, help="bag")
    parser.add_argument("--weights", nargs="+", required=True, metavar="NAME=FILE", help="what to compare")
    parser.add_argument("--frames", type=int, nargs="+", required=True, help="numbers of frames")
    parser.add_argument("--size", type=int, nargs=2, default=(512, 160), help="pixels (512 160)")
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    options = parser.parse_args()
    clip = load_clip(ClipConfig(path=options.recording, width=options.size[0], height=options.size[1]))
    names, files = zip(*(entry.split("=", 1) for entry in options.weights), strict=True)
    nets = [load_depth_net(Path(file))[0].eval() for file in files]
    rows = []
    for frame in options.frames:
        image = clip.images[frame : frame + 1].float() / 255
        depths = [net.depth(image)[0, 0].numpy() for net in nets]
        middle = np.median(depths[-1])
        depths = [d * (middle / np.median(d)) for d in depths]
        near, far = np.percentile(depths[-1], [1, 97])
        tiles = [clip.images[frame].permute(1, 2, 0).numpy()[..., ::-1].copy()]
        tiles += [
            titled(color_depth(d.astype(np.float32), near, far), name) for d, name in zip(depths, names, strict=True)
        ]
        rows.append(cv2.hconcat(tiles))
    write_picture(options.out, cv2.vconcat(rows))


if __name__ == "__main__":
    main()
