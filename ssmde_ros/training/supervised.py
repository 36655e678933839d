"""Supervised training on the synthetic world: how the shipped student was made, in the two stages of recipes/student_tiny.sh.

    python -m ssmde_ros.training.supervised --out student.safetensors --minutes 60

Resumable: run the same command again after an interruption.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ssmde_ros.data.sources import open_source
from ssmde_ros.data.synthetic.dataset import SIZES, SameSizeBatches, SampleKey, SyntheticDepthDataset
from ssmde_ros.evaluation import Protocol, evaluate_frame
from ssmde_ros.memory import keep_freed_memory
from ssmde_ros.networks import (
    DepthNet,
    DepthNetConfig,
    check_depth_net,
    disparity_to_depth,
    load_depth_net,
    save_depth_net,
)
from ssmde_ros.training.losses.supervised import log_depth_loss, log_gradient_loss
from ssmde_ros.training.mix_style import StyleMixer

HELD_OUT_SEED = 9_000_000  # seeds from here on are never trained on


@dataclass(frozen=True)
class SupervisedConfig:
    """Settings of one run.

    Attributes:
        scenes: how many different scenes to draw.
        batch_size: frames a step.
        minutes: wall-clock budget.
        steps: length of the learning-rate schedule; the run also ends there.
        learning_rate: of the decoder; the encoder, already trained on real images, gets a tenth.
        frozen_blocks: encoder blocks besides the stem kept at the weights they start with. Early filters
            learned from photographs are worth more on photographs than what drawings would teach them.
        gradient_weight: weight of the log-depth gradient term.
        mix_styles: probability that features of a batch take other styles, of one another or of `looks`, at each of five layers.
        held_out: how many scenes to validate on.
        sky_weight: weight of sky pixels, whose depth is pinned to the far end of the range.
        looks: bags, videos or folders of images whose photographs lend the drawings their look.
        start: weights to go on from; an ImageNet encoder and a random decoder without.
        widths: of that decoder, see `DepthNetConfig`.
        scales: how many heads learn, finest first.
    """

    scenes: int = 6000
    batch_size: int = 8
    minutes: float = 60.0
    steps: int = 4000
    learning_rate: float = 1e-3
    frozen_blocks: int = 3
    gradient_weight: float = 0.5
    sky_weight: float = 0.2
    mix_styles: float = 0.0
    held_out: int = 96
    looks: tuple[Path, ...] = ()
    start: Path | None = None
    widths: tuple[int, ...] = DepthNetConfig().widths
    scales: int = 4


class SupervisedDepth(lightning.LightningModule):
    """The student with ground-truth depth.

    Args:
        snapshots: folder for the averaged weights at every look at the held-out scenes, `step-NNNNN.safetensors`.
        looks: photographs `[H, W, 3]`, uint8 RGB, whose styles drawings take where they are mixed.
    """

    def __init__(
        self, config: SupervisedConfig, snapshots: Path | None = None, looks: Sequence[NDArray[np.uint8]] = ()
    ) -> None:
        super().__init__()
        self.settings, self.snapshots, self.looks = config, snapshots, looks
        if config.start is not None:
            self.net, _ = load_depth_net(config.start)
        else:
            self.net = DepthNet(DepthNetConfig(widths=config.widths))
            self.net.load_imagenet()
        encoder = self.net.encoder
        # After the stem and wherever the decoder looks in but the last: there drawings and photographs differ most.
        mixed = [encoder.stem, *(encoder.blocks[index] for index in (0, 2, 4, 10))]  # type: ignore[index, list-item]
        self.styles = StyleMixer(mixed, config.mix_styles)  # type: ignore[arg-type]
        for part in [encoder.stem, *encoder.blocks[: config.frozen_blocks]]:  # type: ignore[index, list-item]
            part.requires_grad_(False)

    def on_train_start(self) -> None:
        self.net.eval()
        for look in self.looks if self.settings.mix_styles > 0 else ():
            shape = SIZES[look.shape[1] > 2 * look.shape[0]]
            small = cv2.resize(look, shape, interpolation=cv2.INTER_AREA)
            image = torch.from_numpy(small).to(self.device).permute(2, 0, 1)[None].float() / 255
            self.styles.remember(self.net, image)
        self.net.train()

    def on_train_epoch_start(self) -> None:
        # Batch statistics of drawings are not those of photographs: keep the ImageNet ones.
        for module in self.net.encoder.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        image, truth = batch[0].float() / 255, batch[1]
        image = image.contiguous(memory_format=torch.channels_last)
        config = self.net.config
        loss = image.new_zeros(())
        self.styles.active = True
        outputs = self.net(image, self.settings.scales)
        self.styles.active = False
        for scale, sigma in enumerate(outputs):
            depth = disparity_to_depth(sigma, config.min_depth, config.max_depth)
            target = truth[..., :: 2**scale, :: 2**scale]
            terms = log_depth_loss(depth, target, config.max_depth, self.settings.sky_weight)
            terms = terms + self.settings.gradient_weight * log_gradient_loss(depth, target, config.max_depth)
            loss = loss + terms / 2**scale
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], number: int) -> None:
        if number == 0 and self.snapshots is not None:  # here, and not at the end, the net has its averaged weights
            path = self.snapshots / f"step-{self.trainer.global_step:05d}.safetensors"
            save_depth_net(self.net, path, {"steps": self.trainer.global_step})
        depth = self.net.depth(batch[0].float() / 255)
        protocol = Protocol(max_depth=80.0)
        for predicted, truth in zip(depth, batch[1], strict=True):
            metrics = evaluate_frame(predicted[0].cpu().numpy(), truth[0].cpu().numpy(), protocol)
            if metrics is not None:
                shown = {key: metrics[key] for key in ("abs_rel", "d1")}
                self.log_dict(shown, prog_bar=True, on_epoch=True, batch_size=1)

    def configure_optimizers(self) -> Any:
        rate = self.settings.learning_rate
        encoder = [p for p in self.net.encoder.parameters() if p.requires_grad]
        groups = [{"params": encoder, "lr": rate / 10}, {"params": self.net.decoder.parameters(), "lr": rate}]
        optimizer = torch.optim.AdamW(groups, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, [rate / 10, rate], total_steps=self.settings.steps, pct_start=0.05
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def photographs(sources: Sequence[Path], each: int = 40) -> list[NDArray[np.uint8]]:
    """Up to `each` pictures `[H, W, 3]` RGB, as large as drawings, spread over every bag, video or folder of images.

    Raises:
        SourceError: nothing readable there.
    """
    pictures = []
    for path in sources:
        with open_source(path) as source:
            step = max(1, -(-source.count // each))
            for number, frame in enumerate(islice(source.frames, each * step)):  # headers of videos may say too little
                if number % step == 0:
                    height, width = frame.image.shape[:2]
                    factor = min(1.0, max(max(size) for size in SIZES) / max(height, width))
                    pictures.append(cv2.resize(frame.image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))
    return pictures


def loaders(
    config: SupervisedConfig, cache: Path, looks: Sequence[NDArray[np.uint8]] = ()
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Training and held-out synthetic frames, one in three wide."""
    drawn = [SampleKey(seed, wide=seed % 3 == 0) for seed in range(config.scenes)]
    held_out = [SampleKey(HELD_OUT_SEED + i, wide=3 * i >= 2 * config.held_out) for i in range(config.held_out)]
    return (
        DataLoader(
            SyntheticDepthDataset(drawn, cache, augment=True, looks=looks),
            batch_sampler=SameSizeBatches(drawn, config.batch_size),
            num_workers=1, persistent_workers=True, prefetch_factor=4,
        ),
        DataLoader(
            SyntheticDepthDataset(held_out, cache, augment=False), batch_sampler=SameSizeBatches(held_out, 2),
            num_workers=1, persistent_workers=True,
        ),
    )  # fmt: skip


def train(config: SupervisedConfig, out: Path, work: Path) -> None:
    """Train, validate on held-out scenes, and write the averaged weights to `out`."""
    keep_freed_memory()
    lightning.seed_everything(0, workers=True)
    snapshots = work / "snapshots"
    snapshots.mkdir(parents=True, exist_ok=True)
    start = check_depth_net(config.start).digest if config.start is not None else None
    pictures = photographs(config.looks)
    module = SupervisedDepth(config, snapshots, pictures)
    module.net = module.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    every = ModelCheckpoint(work / "checkpoints", save_last=True, every_n_train_steps=100)
    average = EMAWeightAveraging(decay=0.995)
    trainer = lightning.Trainer(
        max_steps=config.steps,
        max_time=timedelta(minutes=config.minutes),
        callbacks=[every, average],
        default_root_dir=work,
        gradient_clip_val=1.0,
        val_check_interval=250,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=20,
    )
    last = work / "checkpoints" / "last.ckpt"
    training, held_out = loaders(config, work / "frames", pictures)
    trainer.fit(module, training, held_out, ckpt_path=last if last.is_file() else None, weights_only=True)
    scores = trainer.validate(module, held_out, verbose=False)[0]
    # The average of the weights, as it was while validating: a run that was finished already has it nowhere else.
    averaged, _ = load_depth_net(snapshots / f"step-{trainer.global_step:05d}.safetensors")
    named = {"looks": ["/".join(path.parts[-2:]) for path in config.looks], "start": start}
    provenance = {
        "data": "synthetic worlds drawn by ssmde_ros.data.synthetic; encoder from ImageNet",
        "command": "python -m ssmde_ros.training.supervised",
        "settings": vars(config) | named,
        "steps": trainer.global_step,
        "held_out_synthetic": scores,
    }
    save_depth_net(averaged, out, provenance)
    print(f"wrote {out}: {scores}")


def main() -> None:
    """Command line of the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = SupervisedConfig()
    parser.add_argument("--out", type=Path, required=True, help="weights file to write")
    parser.add_argument("--work", type=Path, default=Path("runs/supervised"), help="checkpoints, frames and logs")
    parser.add_argument("--minutes", type=float, default=defaults.minutes, help="wall-clock budget")
    parser.add_argument("--steps", type=int, default=defaults.steps, help="length of the schedule")
    parser.add_argument("--scenes", type=int, default=defaults.scenes, help="different scenes to draw")
    parser.add_argument(
        "--frozen-blocks", type=int, default=defaults.frozen_blocks, help="encoder blocks left as they are"
    )
    parser.add_argument(
        "--looks", type=Path, nargs="*", default=[], metavar="SOURCE",
        help="bags, videos or folders of images whose photographs lend the drawings their look",
    )  # fmt: skip
    parser.add_argument("--start", type=Path, metavar="WEIGHTS", help="go on from these instead of ImageNet's")
    parser.add_argument(
        "--widths", type=int, nargs=5, default=defaults.widths, metavar="CHANNELS", help="of the decoder, finest first"
    )
    parser.add_argument("--scales", type=int, choices=range(1, 5), default=defaults.scales, help="heads that learn")
    parser.add_argument(
        "--mix-styles", type=float, default=defaults.mix_styles, help="probability that features take other styles"
    )
    parser.add_argument("--gradient-weight", type=float, default=defaults.gradient_weight, help="of depth's edges")
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate, help="of the decoder")
    parser.add_argument("--sky-weight", type=float, default=defaults.sky_weight, help="of a pixel of the sky")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0 for torch's choice")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    config = SupervisedConfig(
        scenes=arguments.scenes,
        minutes=arguments.minutes,
        steps=arguments.steps,
        frozen_blocks=arguments.frozen_blocks,
        mix_styles=arguments.mix_styles,
        learning_rate=arguments.learning_rate,
        gradient_weight=arguments.gradient_weight,
        sky_weight=arguments.sky_weight,
        looks=tuple(arguments.looks),
        start=arguments.start,
        widths=tuple(arguments.widths),
        scales=arguments.scales,
    )
    train(config, arguments.out, arguments.work)


if __name__ == "__main__":
    main()
