"""What each part of SS-MDE is worth: trains on the synthetic dynamic world and prints a table.

    python benchmarks/ablation.py --out runs/ablation            about ninety minutes on two cores
    python benchmarks/ablation.py --out runs/quick --quick       about ten

Every row trains the same student from the same ImageNet encoder for the same number of steps, on the same scenes;
scores are those of its averaged weights on held-out scenes, median-scaled per image. Interrupted, the same command
goes on: finished cells are kept, a cell that was cut off resumes from its checkpoint.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ssmde_ros.data.clip import Clip
from ssmde_ros.data.synthetic.clips import HELD_OUT, DynamicWorld, dynamic_clips, true_motions
from ssmde_ros.data.triplets import TrainingClip
from ssmde_ros.evaluation import FrameScore, Protocol, align_frame, mean_regions, score_regions
from ssmde_ros.networks import DepthNet
from ssmde_ros.training.config import TrainConfig, parse_config
from ssmde_ros.training.config_values import merged
from ssmde_ros.training.pseudo_depth import Degradation, SyntheticPseudoDepth, pseudo_maps
from ssmde_ros.training.run import fit

PROTOCOL = Protocol(min_depth=0.1, max_depth=80.0)
_BATCH = 2
_TARGETS = 4  # of the six frames of a scene, those with a neighbour on both sides
BIAS = 2.0  # of the deliberately wrong pseudo-depth: a systematic warp, log units

_PHOTOMETRIC = {
    "loss": {"geometry": 0.0, "moving_weight": False, "pseudo": 0.0, "distill": 0.0},
    "teacher": {"kind": "none"},
}
_GEOMETRY = merged(_PHOTOMETRIC, {"loss": {"geometry": 0.1, "moving_weight": True}})
_PSEUDO = merged(_GEOMETRY, {"loss": {"pseudo": 0.2, "pseudo_ranking": 4.0, "gamma": 1.0}})
_FORGETTING = merged(_PSEUDO, {"loss": {"gamma": 0.9}})
_TEACHER = merged(
    _FORGETTING,
    {"loss": {"distill": 0.05}, "teacher": {"kind": "ema", "multi_view_mask": False}},
)
_FULL = merged(_TEACHER, {"teacher": {"multi_view_mask": True}})


@dataclass(frozen=True)
class Row:
    """One line of the table: its name, what it sets, and whether its pseudo-depth is deliberately warped."""

    name: str
    settings: dict[str, Any]
    biased: bool = False


ROWS = {
    "photometric": Row("photometric only (monodepth2-style)", _PHOTOMETRIC),
    "geometry": Row("+ geometry", _GEOMETRY),
    "pseudo": Row("+ pseudo-depth, never forgotten", _PSEUDO),
    "forgetting": Row("+ pseudo-depth with forgetting", _FORGETTING),
    "teacher": Row("+ teacher without mask", _TEACHER),
    "full": Row("+ teacher with multi-view mask (SS-MDE)", _FULL),
    "successive": Row("SS-MDE, successive scales (Xiang 2024)", merged(_FULL, {"loss": {"successive_scale": 0.1}})),
    "dense": Row("SS-MDE, dense skips (Xiang 2024)", merged(_FULL, {"model": {"dense_skips": True}})),
    "resolution": Row("SS-MDE, multi-resolution (Lee 2023)", merged(_FULL, {"loss": {"multi_resolution": 0.2}})),
    "distortion": Row("SS-MDE, filtered distortion (Mendoza 2022)", merged(_FULL, {"loss": {"distortion": 0.2}})),
    "biased": Row("+ warped pseudo-depth, never forgotten", _PSEUDO, biased=True),
    "biased_forgetting": Row(
        "+ warped pseudo-depth, all of it forgotten by γ = 0.4",
        merged(_PSEUDO, {"loss": {"gamma": 0.4, "gamma_dynamic": 0.4}}),
        biased=True,
    ),
    "supervised": Row(
        "supervised (upper bound)",
        merged(_PHOTOMETRIC, {"loss": {"photometric": 0.0, "smoothness": 0.0, "supervised": 1.0}}),
    ),
}
RELATIVES = ("successive", "dense", "resolution", "distortion")


@dataclass(frozen=True)
class Size:
    """How much of it: scenes, steps, seeds."""

    train_clips: int = 48
    held_out_clips: int = 20
    steps: int = 480
    seeds: int = 3

    @property
    def epochs(self) -> float:
        """How often each target frame is seen."""
        return self.steps * _BATCH / (self.train_clips * _TARGETS)


FULL_SIZE = Size()
QUICK_SIZE = Size(train_clips=18, held_out_clips=8, steps=110, seeds=1)


def settings(row: Row, seed: int, size: Size, out: Path) -> TrainConfig:
    """The configuration of one cell."""
    epochs = size.epochs
    common = {
        "triplets": {"gaps": [1, 2], "seed": seed},
        "model": {"init": "imagenet", "start_depth": 5.0},
        "pose": {"source": "network"},
        # Several scales and next to no smoothness, as in monodepth2: with one, half of the seeds never leave the flat
        # depth they start from, and smoothness 0.03 costs photometry alone a tenth of its score.
        "loss": {
            "photometric_scales": 3, "smoothness": 0.001,
            # Neither consistency nor a teacher has anything to say of the flat depth at the start.
            "geometry_begin": 0.4 * epochs, "geometry_length": 0.4 * epochs,
        },
        "teacher": {"begin": 0.6 * epochs, "length": 0.2 * epochs},
        "optim": {"encoder_factor": 0.3, "flat": 0.5, "average": 0.98},
        "run": {
            "out": str(out), "steps": size.steps, "batch_size": _BATCH, "seed": seed, "threads": 1,
            "checkpoint_every": 100, "picture_every": 10_000,
        },
    }  # fmt: skip
    return parse_config(merged(common, row.settings), row.name)


def training_clips(clips: list[Clip], row: Row, seed: int, poses: bool) -> list[TrainingClip]:
    """Clips with imitated pseudo-depth, and with their true camera motion when `poses`."""
    bias = BIAS if row.biased else 0.0
    items = []
    for clip in clips:
        truth = {name: depth[0].numpy() for name, depth in zip(clip.names, clip.depth, strict=True)}  # type: ignore[arg-type]
        provider = SyntheticPseudoDepth(truth, "inverse_depth", Degradation(seed, warp=0.15, bias=bias))
        item = TrainingClip(clip, pseudo=pseudo_maps(provider, clip, range(len(clip))))
        if poses:
            item.motions = true_motions(clip)
        items.append(item)
    return items


@torch.inference_mode()
def score(net: DepthNet, clips: list[Clip]) -> dict[str, dict[str, float]]:
    """AbsRel and delta1 on full, static and dynamic pixels of held-out scenes."""
    net.eval()
    frames: list[FrameScore] = []
    for clip in clips:
        assert clip.depth is not None and clip.moving is not None
        for i in range(1, len(clip), 2):
            depth = net.depth(clip.images[i : i + 1].float() / 255)[0, 0].numpy()
            aligned = align_frame(depth, clip.depth[i, 0].numpy(), PROTOCOL)
            if aligned is not None:
                frames.append(score_regions(aligned, clip.moving[i, 0].numpy()))
    regions = mean_regions(frames).items()
    return {name: {k: r.metrics[k] for k in ("abs_rel", "d1")} for name, r in regions if r.metrics is not None}


def run_cell(key: str, seed: int, size: Size, out: Path, poses: bool) -> None:
    """Train and score one cell, and write its numbers."""
    import logging

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    torch.set_num_threads(1)
    cell = out / f"{key}-{seed}"
    train = dynamic_clips(DynamicWorld(), size.train_clips, 0, out / "scenes")
    held_out = dynamic_clips(DynamicWorld(), size.held_out_clips, HELD_OUT, out / "scenes")
    items = training_clips(train, ROWS[key], seed, poses)
    config = settings(ROWS[key], seed, size, cell)
    module, weights = fit(config, items, enable_progress_bar=False, logger=False, accelerator="cpu")
    result = {"row": key, "seed": seed, "steps": module.global_step, "seconds": module.elapsed, "weights": str(weights)}
    result["scores"] = score(module.averaged, held_out)
    partial = cell / "result.partial"
    partial.write_text(json.dumps(result, indent=1))
    partial.replace(cell / "result.json")


def table(out: Path, rows: list[str], seeds: int) -> str:
    """Markdown: mean +- spread over the seeds."""
    lines = [
        "| | AbsRel full | static | dynamic | δ1 full | static | dynamic |",
        "|---|---|---|---|---|---|---|",
    ]
    for key in rows:
        files = [out / f"{key}-{seed}" / "result.json" for seed in range(seeds)]
        scores = [json.loads(f.read_text())["scores"] for f in files if f.is_file()]
        if not scores:
            continue
        cells = []
        for metric in ("abs_rel", "d1"):
            for region in ("full", "static", "dynamic"):
                values = [s[region][metric] for s in scores]
                cells.append(f"{np.mean(values):.3f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.3f}")
        lines.append(f"| {ROWS[key].name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="results and scenes (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="one seed, fewer scenes and steps")
    parser.add_argument("--jobs", type=int, default=2, help="cells trained at a time, one core each (%(default)s)")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS), help="only these")
    parser.add_argument("--steps", type=int, help="training steps a cell, instead of the size's own")
    parser.add_argument("--seeds", type=int, help="seeds, instead of the size's own")
    parser.add_argument("--network-pose", action="store_true", help="camera motion from the pose network alone")
    parser.add_argument("--cell", nargs=2, metavar=("ROW", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = QUICK_SIZE if options.quick else FULL_SIZE
    size = Size(size.train_clips, size.held_out_clips, options.steps or size.steps, options.seeds or size.seeds)
    if options.cell:
        run_cell(options.cell[0], int(options.cell[1]), size, options.out, not options.network_pose)
        return
    dynamic_clips(DynamicWorld(), size.train_clips, 0, options.out / "scenes")
    dynamic_clips(DynamicWorld(), size.held_out_clips, HELD_OUT, options.out / "scenes")
    # Seed by seed, the relatives last: cut off at any time, the table is whole for the seeds that are done.
    relatives = [key for key in options.rows if key in RELATIVES]
    rows = [key for key in options.rows if key not in RELATIVES]
    cells = [(key, seed) for part in (rows, relatives) for seed in range(size.seeds) for key in part]
    missing = [(k, s) for k, s in cells if not (options.out / f"{k}-{s}" / "result.json").is_file()]

    def work(cell: tuple[str, int]) -> None:
        log = options.out / f"{cell[0]}-{cell[1]}.log"
        with log.open("w") as file:
            command = [sys.executable, __file__, *sys.argv[1:], "--cell", cell[0], str(cell[1])]
            if subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode:
                print(f"{cell[0]}, seed {cell[1]} failed: see {log}", file=sys.stderr)

    with ThreadPoolExecutor(options.jobs) as pool:
        for _ in tqdm(pool.map(work, missing), total=len(missing), desc="training", unit="cell"):
            pass
    text = table(options.out, options.rows, size.seeds)
    (options.out / "table.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
