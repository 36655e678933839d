r"""Input beside depth for every recording: pictures that people look at before they install anything.

    python benchmarks/gallery.py ../shared/data/*/ --out docs/gallery

Each bag, video or folder of images gives one picture of three frames, spread over it. A folder without pictures of its
own is taken by its `frames` folder; what holds no pictures is passed over with a line. Depth is colored from red (near) to blue, from the 2nd to
the 95th percentile of its own frame.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.commands.pictures import titled, write_picture
from ssmde_ros.data.sources import SourceError, is_bag, open_source
from ssmde_ros.errors import SsmdeError
from ssmde_ros.resources import default_weights
from ssmde_ros.runtime import DepthEstimator
from ssmde_ros.runtime.color import color_depth

WIDTH = 480  # pixels of one tile


def main() -> None:
    """One picture per recording."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", type=Path, nargs="+", help="bags, videos, folders of images")
    parser.add_argument("--weights", type=Path, help="instead of the shipped student")
    parser.add_argument("--frames", type=int, default=3, help="of each recording (3)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for path in options.sources:
        try:
            picture = sheet(path, options.weights or default_weights(), options.frames)
        except SsmdeError as error:
            print(f"passed over: {error}")
            continue
        file = options.out / f"{path.name if path.is_dir() else path.stem}.jpg"
        write_picture(file, picture)
        print(file)


def sheet(path: Path, weights: Path, frames: int) -> NDArray[np.uint8]:
    """Frames of one recording under each other, each beside its depth. `[H, W, 3]` BGR."""
    rows = []
    with open_source(contents(path)) as source:
        estimator = DepthEstimator(weights)
        wanted = {round((number + 0.5) / frames * source.count) for number in range(frames)}
        for number, frame in enumerate(source.frames):
            if number in wanted:
                shown = estimator.estimate(frame.image, source.calibration)
                depth = shown.depth
                if not shown.valid.any():
                    continue
                near, far = np.percentile(depth[shown.valid], [2, 95])
                far = max(far, 1.01 * near)
                tiles = [cv2.cvtColor(shown.image, cv2.COLOR_RGB2BGR), color_depth(depth, near, far)]
                size = (WIDTH, round(WIDTH * depth.shape[0] / depth.shape[1]))
                tiles = [cv2.resize(tile, size, interpolation=cv2.INTER_AREA) for tile in tiles]
                rows.append(cv2.hconcat([titled(tiles[0], f"frame {number}"), tiles[1]]))
    if not rows:
        raise SourceError(f"{path} holds no frame with depth")
    return cv2.vconcat(rows).astype(np.uint8)


def contents(path: Path) -> Path:
    """The recording in a folder that holds one beside other things: its `frames`, or its only video."""
    if path.is_dir() and not is_bag(path):
        if (path / "frames").is_dir():
            return path / "frames"
        videos = [file for file in path.iterdir() if file.suffix == ".mp4"]
        if len(videos) == 1:
            return videos[0]
    return path


if __name__ == "__main__":
    main()
