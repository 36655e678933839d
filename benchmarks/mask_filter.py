"""Is the multi-view mask a filter? Scores it on held-out synthetic scenes with true depth and motion.

    python benchmarks/mask_filter.py --out docs/images/mask_filter.png

The teacher is the shipped student, as in fine-tuning from it. Prints its AbsRel on kept and on rejected pixels, the
share that is kept, and how well its moving map meets the true one; draws precision and recall of the map over the
error that the flow is granted (`mask.moving_pixels`). About three minutes.
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
from ssmde_ros.geometry import look
from ssmde_ros.networks import load_depth_net
from ssmde_ros.training.losses import median_ratio
from ssmde_ros.training.mask_filter import MaskFilterConfig, MaskResult, cleaned, filter_mask
from ssmde_ros.training.moving import NUDGE, moving_regions, residual_flow
from ssmde_ros.training.teacher import Teacher

SHIPPED = Path(__file__).parents[1] / "models" / "student-tiny.safetensors"
THRESHOLDS = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0)  # pixels of a 320 pixels wide image


def batches(clips: list[Clip]) -> list[Batch]:
    """Every target frame once, plain: no flips, no other colors."""
    items = [TrainingClip(clip, true_motions(clip)) for clip in clips]
    plain = TripletConfig(gaps=(1,), flip=False, jitter=0.05)
    probe = Triplets(items, plain, 1, 1)
    return list(Triplets(items, plain, 1, len(probe.targets)))


@torch.inference_mode()
def filtered_depth(teacher: Teacher, batch: Batch) -> torch.Tensor:
    """The teacher's depth `[B, 1, H, W]`, metres, median-scaled to the truth."""
    assert batch.depth is not None
    depth = teacher.net.depth(batch.frames[:, 0])
    return depth * median_ratio(batch.depth, depth, batch.depth.isfinite())


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
    for batch in tqdm(samples, desc="mask filter", unit="frame"):
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


def curve(teacher: Teacher, samples: list[Batch], config: MaskFilterConfig) -> list[tuple[float, dict[str, float]]]:
    """Precision and recall of the moving map over `THRESHOLDS`; the flow, which does not depend on them, is found once."""
    totals = {t: np.zeros(3) for t in THRESHOLDS}
    for batch in tqdm(samples, desc="precision and recall", unit="frame"):
        assert batch.moving is not None
        depth, target = filtered_depth(teacher, batch), batch.frames[:, 0]
        flows = []
        for source, motion in zip(batch.frames[:, 1:].unbind(1), batch.motions.unbind(1), strict=True):
            views = [look(factor * depth, motion, batch.intrinsics) for factor in (1.0, NUDGE)]
            flows.append(residual_flow(target, source, *views))
        area = round(config.min_area * target.shape[2] * target.shape[3] / (320 * 256))
        for threshold, sums in totals.items():
            found = cleaned(moving_regions(flows, target, threshold, config.moving_depth), area)
            sums += [float((found & batch.moving).sum()), float(found.sum()), float(batch.moving.sum())]
    return [(t, {"precision": hit / max(said, 1), "recall": hit / true}) for t, (hit, said, true) in totals.items()]


def curve_picture(points: list[tuple[float, dict[str, float]]], size: int = 420) -> np.ndarray:
    """Precision over recall of the moving map, one dot per threshold."""
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
    parser.add_argument("--weights", type=Path, default=SHIPPED, help="the teacher (the shipped student)")
    parser.add_argument("--scenes", type=Path, default=Path("runs/mask_filter"), help="cache of drawn scenes")
    parser.add_argument("--count", type=int, default=20, help="held-out scenes (%(default)s)")
    parser.add_argument("--size", type=int, nargs=2, default=(320, 256), help="of the frames, pixels (320 256)")
    parser.add_argument("--out", type=Path, help="picture of precision and recall to write")
    options = parser.parse_args()
    teacher, config = Teacher(load_depth_net(options.weights)[0], 1.0), MaskFilterConfig()
    world = DynamicWorld(width=options.size[0], height=options.size[1])
    samples = batches(dynamic_clips(world, options.count, HELD_OUT, options.scenes))
    result = score(teacher, samples, config)
    print(json.dumps({key: round(value, 4) for key, value in result.items()}, indent=2))
    if options.out:
        write_picture(options.out, curve_picture(curve(teacher, samples, config)))


if __name__ == "__main__":
    main()
