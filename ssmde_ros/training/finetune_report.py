"""A generation for people: what it learned from, how it was judged, and pictures before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ssmde_ros.data.key_frames import KeyFrames, summary
from ssmde_ros.networks import DepthNet, load_depth_net
from ssmde_ros.training.generations import Generation
from ssmde_ros.training.keep_up import Choice
from ssmde_ros.training.verdict import NAMES

if TYPE_CHECKING:
    from ssmde_ros.training.finetune import Outcome

_PICTURES = 3
_SIZE = (640, 240)  # of the histogram, pixels


def write_report(folder: Path, generation: Generation, outcome: Outcome) -> None:
    """`report.md` with its pictures."""
    material, verdict = outcome.material, outcome.verdict
    _write_picture(folder / "parallax.png", draw_histogram(material.frames))
    before, _ = load_depth_net(outcome.parent.path)
    pictures = _compare(folder, before, outcome)
    start, recording = outcome.parent, material.recording
    lines = [
        f"# Generation {generation.name}: {generation.state}",
        "",
        f"{verdict.reason}.",
        "",
        f"Started from `{start.path}` ({start.digest}), trained {outcome.module.global_step} steps in "
        f"{outcome.module.elapsed / 60:.1f} minutes on `{outcome.config.bag}`"
        f"; the student is {_origin(outcome.choice)}.",
        f"Ego-motion: {material.odometry or 'visual odometry, so depth is right up to scale'}.",
        "",
        "| held out | before | after | gain | p | frames |",
        "|---|---|---|---|---|---|",
        *[
            f"| {NAMES[name]} | {c.before:.4f} | {c.after:.4f} | {100 * c.gain:+.1f} % | {c.p:.4f} | {c.frames} |"
            for name, c in verdict.compared.items()
        ],
        "",
        *(
            [f"AbsRel in metres, without any scaling, after: {outcome.after.means()['metric']:.4f}.", ""]
            if outcome.after.metric
            else []
        ),
        "## Key frames",
        "",
        *[f"- {line}" for line in summary(material.frames).splitlines()],
        *([f"- {recording.lost} messages lost: {'; '.join(recording.damage)}"] if recording.damage else []),
        "",
        "![parallax](parallax.png)",
        "",
        "## Held-out frames: image, before, after",
        "",
        *[f"![{name}]({name})" for name in pictures],
        "",
    ]
    (folder / "report.md").write_text("\n".join(lines), "utf-8")


def _origin(choice: Choice) -> str:
    way = "" if choice.share == 1 else f"{choice.share:.0%} of the way from the start to "
    return f"{way}the one of minute {choice.minute:.1f}"


def draw_histogram(found: list[KeyFrames]) -> NDArray[np.uint8]:
    """How much parallax the frames have at their best gap, degrees: `[H, W, 3]` BGR."""
    width, height = _SIZE
    canvas = np.full((height, width, 3), 255, np.uint8)
    values = [value for each in found for value in each.parallax]
    top = max(1.0, float(np.quantile(values, 0.98))) if values else 1.0
    counts, _ = np.histogram(np.clip(values, 0, top), bins=40, range=(0, top))
    left, bottom, right = 20, height - 40, width - 20
    for number, count in enumerate(counts):
        x0, x1 = (round(left + (right - left) * n / 40) for n in (number, number + 1))
        y = bottom - round((bottom - 30) * count / max(1, counts.max()))
        cv2.rectangle(canvas, (x0, y), (x1 - 2, bottom), (172, 102, 33), cv2.FILLED)
    cv2.line(canvas, (left, bottom), (right, bottom), (60, 60, 60), 1)
    for share in (0.0, 0.5, 1.0):
        place = (round(left + (right - left) * share) - 12, height - 22)
        cv2.putText(canvas, f"{share * top:.1f}", place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (60, 60, 60), 1, cv2.LINE_AA)
    text = f"parallax, degrees ({len(values)} frames)"
    cv2.putText(canvas, text, (left, height - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (60, 60, 60), 1, cv2.LINE_AA)
    return canvas


def _compare(folder: Path, before: DepthNet, outcome: Outcome) -> list[str]:
    """Pictures of a few held-out frames; their names."""
    after, holdout = outcome.module.averaged.eval(), outcome.material.holdout
    frames = holdout.frames[:: max(1, len(holdout.frames) // _PICTURES)][:_PICTURES]
    names = []
    for number, t in frames:
        image = holdout.clips[number].clip.images[t]
        with torch.inference_mode():
            depths = [net.depth(image[None].float() / 255)[0, 0].numpy() for net in (before, after)]
        # Each by its own median: a start that is right up to scale has its colors comparable.
        colored = [color_relative(depth) for depth in depths]
        shown = cv2.cvtColor(image.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2BGR)
        names.append(f"frame-{number}-{t}.png")
        _write_picture(folder / names[-1], np.hstack([shown, *colored]))
    return names


def color_relative(depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Depth `[H, W]` as colors `[H, W, 3]` BGR from a quarter to four times its median, near is bright."""
    place = np.log2(depth / np.median(depth)) / 4 + 0.5
    return np.asarray(
        cv2.applyColorMap((255 * (1 - np.clip(place, 0, 1))).astype(np.uint8), cv2.COLORMAP_TURBO), np.uint8
    )


def _write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    good, code = cv2.imencode(path.suffix, picture)
    assert good, path
    path.write_bytes(code.tobytes())
