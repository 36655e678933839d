"""The pose network's first lessons: how the shipped pose weights were made.

    python -m ssmde_ros.training.pose_lessons RECORDING ... --out models/pose.safetensors

Pictures are moved by known motions (`ssmde_ros.data.lessons`), with the depth of the shipped student, the true one of
the synthetic world, or one drawn at random, and the network has to say how. No pose, no depth and no order of frames is
needed. Resumable: run the same command again after an interruption.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from ssmde_ros.data.lessons import PICTURE_SIZE, Lessons, Picture, draw_lessons
from ssmde_ros.data.sources import open_source
from ssmde_ros.data.synthetic.dataset import SampleKey
from ssmde_ros.networks import DepthNet, PoseNet, load_depth_net, save_pose_net
from ssmde_ros.resources import default_weights


def read_pictures(recordings: Sequence[Path], every: int, student: DepthNet) -> list[Picture]:
    """Every so-and-so-many-th frame of the recordings, with the student's depth.

    Raises:
        SourceError, BagError: a recording that cannot be read.
    """
    pictures = []
    for path in recordings:
        with open_source(path) as source:
            for number, frame in enumerate(tqdm(source.frames, total=source.count, desc=path.name, unit="frame")):
                if number % every:
                    continue
                small = cv2.resize(frame.image, PICTURE_SIZE, interpolation=cv2.INTER_AREA)
                image = torch.from_numpy(small).permute(2, 0, 1).float() / 255
                with torch.inference_mode():
                    inverse_depth = 1 / student.depth(image[None])[0]
                pictures.append(Picture(image, inverse_depth.clone()))
    return pictures


def draw_pictures(count: int, first: int = 0) -> list[Picture]:
    """Frames of the synthetic world with their true depth, drawn from the seeds `first` and on."""
    pictures = []
    for seed in tqdm(range(first, first + count), desc="synthetic world", unit="frame"):
        image, depth = SampleKey(seed, wide=False).draw()
        small = torch.from_numpy(cv2.resize(image, PICTURE_SIZE, interpolation=cv2.INTER_AREA)).permute(2, 0, 1) / 255
        near = cv2.resize(1 / depth.astype(np.float32), PICTURE_SIZE, interpolation=cv2.INTER_NEAREST)
        pictures.append(Picture(small, torch.from_numpy(near)[None].clamp(min=1e-3)))
    return pictures


def lesson_loss(net: PoseNet, lessons: Lessons) -> dict[str, Tensor]:
    """What the network got wrong, in pixels of its 96-pixel-wide frames, about.

    Returns:
        "flow": mean L1 distance; "turn" and "travel": `f |R - R*|_F / sqrt(2)` and `f |t - t*|`.
    """
    reading = net.read(lessons.target, lessons.source, lessons.intrinsics)
    focal = lessons.intrinsics[:, 0, 0]
    far = (reading.flow - lessons.flow).abs().sum(1, keepdim=True) * focal.view(-1, 1, 1, 1) * lessons.seen
    turn = (reading.motion - lessons.motion)[:, :3, :3].flatten(1).square().sum(1).add(1e-10).sqrt() / math.sqrt(2)
    travel = (reading.motion - lessons.motion)[:, :3, 3].square().sum(1).add(1e-10).sqrt()
    return {
        "flow": far.sum() / lessons.seen.sum().clamp(min=1),
        "turn": (turn * focal).mean(),
        "travel": (travel * focal).mean(),
    }


class _Endless(IterableDataset[Lessons]):
    """Batches from a seed on."""

    def __init__(self, pictures: Sequence[Picture], count: int, seed: int) -> None:
        self.pictures, self.count, self.seed = pictures, count, seed

    def __iter__(self) -> Iterator[Lessons]:
        draw = torch.Generator().manual_seed(self.seed)
        while True:
            yield draw_lessons(self.pictures, self.count, draw)


class PoseLessons(lightning.LightningModule):
    """The pose network with known motions."""

    def __init__(self, steps: int, learning_rate: float = 2e-3) -> None:
        super().__init__()
        self.net, self.steps, self.learning_rate = PoseNet(), steps, learning_rate

    def training_step(self, lessons: Lessons, _: int) -> Tensor:
        parts = lesson_loss(self.net, lessons)
        self.log_dict({k: v.detach() for k, v in parts.items()}, prog_bar=True, batch_size=len(lessons.target))
        return 0.5 * parts["flow"] + parts["turn"] + parts["travel"]

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.net.parameters(), self.learning_rate, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=self.steps, pct_start=0.03
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train(pictures: Sequence[Picture], out: Path, work: Path, steps: int, minutes: float, batch_size: int) -> None:
    """Train and write the network to `out`."""
    lightning.seed_everything(0, workers=True, verbose=False)
    module = PoseLessons(steps)
    last = work / "checkpoints" / "last.ckpt"
    trainer = lightning.Trainer(
        max_steps=steps,
        max_time=timedelta(minutes=minutes),
        callbacks=[ModelCheckpoint(work / "checkpoints", save_last=True, every_n_train_steps=500)],
        default_root_dir=work,
        gradient_clip_val=1.0,
        log_every_n_steps=50,
    )
    lessons = DataLoader(_Endless(pictures, batch_size, seed=1), batch_size=None)
    trainer.fit(module, lessons, ckpt_path=last if last.is_file() else None, weights_only=True)
    provenance = {
        "data": f"{len(pictures)} pictures, moved by known motions",
        "command": "python -m ssmde_ros.training.pose_lessons",
        "steps": trainer.global_step,
    }
    save_pose_net(module.net, out, provenance)
    print(f"wrote {out} after {trainer.global_step} steps")


def main() -> None:
    """Command line of the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="*", type=Path, help="bags, videos or folders of images to learn from")
    parser.add_argument("--out", type=Path, required=True, help="weights file to write")
    parser.add_argument("--work", type=Path, default=Path("runs/pose_lessons"), help="checkpoints and logs")
    parser.add_argument("--every", type=int, default=2, help="take each so-many-th frame (2)")
    parser.add_argument("--synthetic", type=int, default=400, help="frames of the synthetic world beside them (400)")
    parser.add_argument("--steps", type=int, default=8000, help="length of the schedule (8000)")
    parser.add_argument("--minutes", type=float, default=240.0, help="wall-clock budget (240)")
    parser.add_argument("--batch-size", type=int, default=8, help="lessons a step (8)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 for torch's choice")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    student, _ = load_depth_net(default_weights())
    pictures = read_pictures(options.recordings, options.every, student) + draw_pictures(options.synthetic)
    train(pictures, options.out, options.work, options.steps, options.minutes, options.batch_size)


if __name__ == "__main__":
    main()
