"""Draws docs/images/synthetic.png: twelve scenes of the synthetic world beside their depth.

python benchmarks/synthetic_sheet.py docs/images/synthetic.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from ssmde_ros.commands.pictures import write_picture
from ssmde_ros.data.synthetic.dataset import SampleKey
from ssmde_ros.runtime import color_depth
from ssmde_ros.training.supervised import HELD_OUT_SEED


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="picture to write")
    options = parser.parse_args()
    tiles = []
    for seed in range(12):
        image, depth = SampleKey(HELD_OUT_SEED + seed, wide=False).draw()
        colors = color_depth(depth.astype(np.float32), 0.5, 80)
        tiles.append(np.hstack([cv2.cvtColor(image, cv2.COLOR_RGB2BGR), colors]))
    sheet = np.vstack([np.hstack(tiles[row : row + 3]) for row in range(0, 12, 3)])
    write_picture(options.out, cv2.resize(sheet, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA))


if __name__ == "__main__":
    main()
