"""Is the multi-view mask a filter? Scores a student's own mask on held-out synthetic scenes with true depth and motion.

    python benchmarks/mask_filter.py --weights runs/ablation/full-0/student.safetensors --out docs/images/mask_filter.png

Prints the teacher's AbsRel on kept and on rejected pixels, the share it keeps, and how well its moving map meets the
true one; draws precision and recall of the map over the geometry threshold.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from ssmde_ros.commands.pictures import write_picture
from ssmde_ros.data.clip import Clip
from ssmde_ros.data.synthetic.clips import HELD_OUT, DynamicWorld, dynamic_clips, true_motions
from ssmde_ros.data.triplets import Batch, TrainingClip, TripletConfig, Triplets
from ssmde_ros.networks import load_depth_net
from ssmde_ros.training.losses import median_ratio
from ssmde_ros.training.mask_filter import MaskFilterConfig, MaskResult, filter_mask
from ssmde_ros.training.teacher import Teacher

THRESHOLDS = (0.02, 0.03, 0.045, 0.06, 0.08, 0.1, 0.13, 0.17, 0.22, 0.3)


def batches(clips: list[Clip]) -> list[Batch]:
    """Every target frame once, plain: no flips, no other colors."""
    items = [TrainingClip(clip, true_motions(clip)) for clip in clips]
    plain = TripletConfig(gaps=(1,), flip=False, jitter=0.05)
    probe = Triplets(items, plain, 1, 1)
    return list(Triplets(items, plain, 1, len(probe.targets)))


@torch.inference_mode()
def filtered(teacher: Teacher, batch: Batch, config: MaskFilterConfig) -> tuple[MaskResult, torch.Tensor]:
    """The filter's answer, and the teacher's depth `[B, 1, H, W]` in metres (median-scaled to the truth)."""
    assert batch.depth is not None
    views = teacher.look(batch)
    # The true motions are metric, so the teacher has to be: one factor for all maps of the sample.
    scale = median_ratio(batch.depth, views.depth, batch.depth.isfinite())
    views = replace(
        views,
        depth=views.depth * scale,
        flipped=views.flipped * scale,
        augmented=views.augmented * scale,
        source_depths=[d * scale for d in views.source_depths],
    )
    target, sources = batch.frames[:, 0], batch.frames[:, 1:].unbind(1)
    return filter_mask(config, target, sources, batch.motions.unbind(1), batch.intrinsics, views), views.depth


def score(teacher: Teacher, samples: list[Batch], config: MaskFilterConfig) -> dict[str, float]:
    """Sums over all pixels of all samples; the sky, which has no depth, is left out of the errors."""
    kept_error = rejected_error = kept = rejected = 0.0
    hit = claimed = true = pixels = passed = 0.0
    for batch in samples:
        assert batch.depth is not None and batch.moving is not None
        result, depth = filtered(teacher, batch, config)
        known = batch.depth.isfinite() & (batch.depth < 80)
        error = (depth - batch.depth).abs() / batch.depth
        kept_error += float(error[result.mask & known].sum())
        rejected_error += float(error[~result.mask & known].sum())
        kept += float((result.mask & known).sum())
        rejected += float((~result.mask & known).sum())
        passed, pixels = passed + float(result.mask.sum()), pixels + result.mask.numel()
        hit += float((result.moving & batch.moving).sum())
        claimed += float(result.moving.sum())
        true += float(batch.moving.sum())
    return {
        "abs_rel_kept": kept_error / max(kept, 1),
        "abs_rel_rejected": rejected_error / max(rejected, 1),
        "share_kept": passed / pixels,
        "precision": hit / max(claimed, 1),
        "recall": hit / max(true, 1),
        "iou": hit / max(claimed + true - hit, 1),
    }


def curve_picture(points: list[tuple[float, dict[str, float]]], size: int = 420) -> np.ndarray:
    """Precision over recall of the moving map, one dot per geometry threshold."""
    canvas = np.full((size, size, 3), 255, np.uint8)
    edge, span = 50, size - 80
    for tick in np.linspace(0, 1, 6):
        at = int(edge + tick * span)
        cv2.line(canvas, (at, size - edge), (at, size - edge - span), (225, 225, 225), 1)
        cv2.line(canvas, (edge, size - at), (edge + span, size - at), (225, 225, 225), 1)
        cv2.putText(
            canvas, f"{tick:.1f}", (at - 10, size - edge + 18), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA
        )
        cv2.putText(
            canvas, f"{tick:.1f}", (18, size - at + 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA
        )
    cv2.putText(canvas, "recall", (size // 2 - 20, size - 12), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(
        canvas, "precision of the moving map", (edge, 22), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA
    )
    dots = [(int(edge + s["recall"] * span), int(size - edge - s["precision"] * span), t) for t, s in points]
    for (x0, y0, _), (x1, y1, _) in pairwise(dots):
        cv2.line(canvas, (x0, y0), (x1, y1), (180, 120, 40), 2, cv2.LINE_AA)
    for x, y, threshold in dots:
        cv2.circle(canvas, (x, y), 4, (180, 60, 20), -1, cv2.LINE_AA)
        cv2.putText(
            canvas, f"{threshold:g}", (x + 6, y - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (60, 60, 60), 1, cv2.LINE_AA
        )
    return canvas


def main() -> None:
    """Score, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="the teacher")
    parser.add_argument("--scenes", type=Path, default=Path("runs/ablation/scenes"), help="cache of drawn scenes")
    parser.add_argument("--count", type=int, default=20, help="held-out scenes (%(default)s)")
    parser.add_argument("--out", type=Path, help="picture of precision and recall to write")
    options = parser.parse_args()
    teacher = Teacher(load_depth_net(options.weights)[0], 1.0)
    samples = batches(dynamic_clips(DynamicWorld(), options.count, HELD_OUT, options.scenes))
    result = score(teacher, samples, MaskFilterConfig())
    print(json.dumps({key: round(value, 4) for key, value in result.items()}, indent=2))
    if options.out:
        swept = tqdm(THRESHOLDS, desc="thresholds")
        points = [(t, score(teacher, samples, replace(MaskFilterConfig(), geometry=t))) for t in swept]
        write_picture(options.out, curve_picture(points))


if __name__ == "__main__":
    main()
