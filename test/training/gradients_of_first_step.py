"""Writes the gradients of the first training step: `gradients_of_first_step.py DEVICES FILE`.

Four samples in one process, or two in each of two (gloo): the gradients must be the same.
"""

import sys
from pathlib import Path

import lightning
import torch

from ssmde_ros.training.config import parse_config
from ssmde_ros.training.config_values import merged
from ssmde_ros.training.run import fit
from test.training.scenes import training_clip
from test.training.test_run import EVERY_TERM


class Write(lightning.Callback):
    """Keeps the gradients before the optimiser changes them; after DDP has averaged them."""

    def __init__(self, path):
        self.path = path

    def on_before_optimizer_step(self, trainer, module, optimizer):
        if trainer.is_global_zero and trainer.global_step == 0:
            found = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
            torch.save(found, self.path)


def main():
    devices, path = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    # Batches of two and of four round differently, and a pixel beside a gate may fall on either side: not in double.
    run = {
        "devices": devices, "batch_size": 4 // devices, "out": str(path.parent / f"run{devices}"), "steps": 1,
        "precision": "64-true",
    }  # fmt: skip
    # Clipping comes after the hook; teacher terms need a second step.
    config = parse_config(merged(EVERY_TERM, {"run": run}))
    fit(config, [training_clip()], callbacks=[Write(path)], logger=False, enable_progress_bar=False, resume=False)


if __name__ == "__main__":
    main()
