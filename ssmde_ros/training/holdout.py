"""Frames that judge a student and never teach it: photometric error, triangulated points, and true depth if there is any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from ssmde_ros.data.triplets import TrainingClip
from ssmde_ros.evaluation import Protocol, align_frame, depth_metrics
from ssmde_ros.geometry import look, sample
from ssmde_ros.networks import DepthNet, PoseNet
from ssmde_ros.training.ego_motion import measured_by, network_motions
from ssmde_ros.training.losses import depth_at, scale_from_points
from ssmde_ros.training.losses.photometric import photometric_error

_FACTORS = torch.linspace(-1.2, 1.2, 9).exp()  # of a translation whose scale nobody knows
_FEWEST_POINTS = 24
_MOST_FRAMES = 120

Frame = tuple[int, int]
"""Number of the held-out clip, and of the frame in it."""


@dataclass
class Errors:
    """Errors of one network by frame, each measure with the frames it could be taken on.

    Attributes:
        photometric: mean minimum-reprojection error, [0, 1].
        points: AbsRel against triangulated points, median-scaled.
        depth: AbsRel against true depth, median-scaled.
        metric: the same without any scaling.
    """

    photometric: dict[Frame, float] = field(default_factory=dict)
    points: dict[Frame, float] = field(default_factory=dict)
    depth: dict[Frame, float] = field(default_factory=dict)
    metric: dict[Frame, float] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Mean of each measure that there is."""
        return {name: float(np.mean(list(values.values()))) for name, values in vars(self).items() if values}


class Holdout:
    """Held-out clips with their motions and, where a topic has it, their true depth.

    Args:
        clips: with key frames and motions worked out.
        truth: by frame, `[h, w]` metres, 0 or not finite where unknown; empty without a depth topic.
        metric: whether motions are in metres, so that depth has to be right without scaling.
    """

    def __init__(
        self,
        clips: Sequence[TrainingClip],
        truth: dict[Frame, NDArray[np.float32]] | None = None,
        metric: bool = False,
        protocol: Protocol | None = None,
    ) -> None:
        self.clips, self.truth, self.metric = list(clips), truth or {}, metric
        self.protocol = protocol or Protocol(min_depth=0.1, max_depth=80.0)
        frames = [(number, t) for number, item in enumerate(self.clips) for t in item.targets((1,))]
        step = max(1, -(-len(frames) // _MOST_FRAMES))
        self.frames: list[Frame] = frames[::step]

    @torch.inference_mode()
    def errors(
        self, nets: Sequence[DepthNet], pose_net: PoseNet | None = None, most: int = _MOST_FRAMES, title: str = ""
    ) -> list[Errors]:
        """Errors of several networks, on the same pixels of the same frames.

        Args:
            nets: in eval mode.
            pose_net: for pairs of frames whose motion is not known; without it they are left out.
            most: frames that are looked at.
            title: of a progress bar; without one there is none.
        """
        found = [Errors() for _ in nets]
        frames = self.frames[:: max(1, -(-len(self.frames) // most))]
        known = list(self.truth.items())
        known = known[:: max(1, -(-len(known) // most))]
        # In a terminal only: a log has no use for it.
        bar = tqdm(
            total=len(frames) + len(known), desc=title, unit="frame", disable=None if title else True, leave=False
        )
        for frame in frames:
            number, t = frame
            item = self.clips[number]
            image = item.clip.images[t : t + 1].float() / 255
            depths = [net.depth(image) for net in nets]
            for errors, value in zip(found, self._photometric(item, t, image, depths, pose_net), strict=True):
                if value is not None:
                    errors.photometric[frame] = value
            for errors, depth in zip(found, depths, strict=True):
                if (value := self._points(item, t, depth)) is not None:
                    errors.points[frame] = value
            bar.update()
        for frame, truth in known:
            number, t = frame
            image = self.clips[number].clip.images[t : t + 1].float() / 255
            for errors, net in zip(found, nets, strict=True):
                self._score(errors, frame, net.depth(image)[0, 0].numpy(), truth)
            bar.update()
        bar.close()
        return found

    def _score(self, errors: Errors, frame: Frame, depth: NDArray[np.float32], truth: NDArray[np.float32]) -> None:
        aligned = align_frame(depth, truth, self.protocol)
        if aligned is None:
            return
        errors.depth[frame] = depth_metrics(aligned.prediction, aligned.truth)["abs_rel"]
        if self.metric:
            plain = align_frame(
                depth, truth, Protocol("none", "none", self.protocol.min_depth, self.protocol.max_depth)
            )
            assert plain is not None
            errors.metric[frame] = depth_metrics(plain.prediction, plain.truth)["abs_rel"]

    def _photometric(
        self, item: TrainingClip, t: int, image: Tensor, depths: list[Tensor], pose_net: PoseNet | None
    ) -> list[float | None]:
        """Mean over the pixels that every network projects into a source of the smallest error over the sources."""
        gap = item.targets((1,))[t][-1]
        lens = item.clip.camera.matrix()[None]
        best = [torch.full_like(depth, torch.inf) for depth in depths]
        seen = [torch.zeros_like(depth, dtype=torch.bool) for depth in depths]
        for s in (t - gap, t + gap):
            source = item.clip.images[s : s + 1].float() / 255
            for n, depth in enumerate(depths):
                views = self._views(item, t, s, depth, lens, image, source, pose_net)
                if not views:
                    continue
                results = [
                    (photometric_error(image, sample(source, v)).masked_fill(~v.valid, torch.inf), v) for v in views
                ]
                error, view = min(results, key=lambda r: _mean(r[0]))
                best[n], seen[n] = torch.minimum(best[n], error), seen[n] | view.valid
        common = torch.stack(seen).all(0)
        if common.float().mean() < 0.2:
            return [None] * len(depths)
        return [float(error[common].mean()) for error in best]

    def _views(
        self,
        item: TrainingClip,
        t: int,
        s: int,
        depth: Tensor,
        lens: Tensor,
        image: Tensor,
        source: Tensor,
        pose_net: PoseNet | None,
    ) -> list:  # type: ignore[type-arg]
        known = item.motions.get((t, s))
        if known is not None and int((known.inverse_depth > 0).sum()) >= _FEWEST_POINTS:
            factors = scale_from_points(depth, known.pixels[None], known.inverse_depth[None])
            motion = known.motion[None].clone()
        elif pose_net is not None:
            pair = torch.stack([image, source], 1)
            motion, factors = measured_by(depth, network_motions(pose_net, pair, lens))[:, 0], _FACTORS
        else:
            return []
        views = []
        for factor in factors:
            scaled = motion.clone()
            scaled[:, :3, 3] *= factor
            views.append(look(depth, scaled, lens))
        return views

    def _points(self, item: TrainingClip, t: int, depth: Tensor) -> float | None:
        """AbsRel against the points that the pairs of a frame triangulated, each pair with its own scale."""
        values = []
        for (target, _), pair in item.motions.items():
            kept = pair.inverse_depth > 0
            if target != t or int(kept.sum()) < _FEWEST_POINTS:
                continue
            ratio = pair.inverse_depth[kept] / depth_at(depth, pair.pixels[kept][None])[0]
            values.append(float((ratio / ratio.median() - 1).abs().mean()))
        return float(np.mean(values)) if values else None


def _mean(error: Tensor) -> float:
    finite = error[torch.isfinite(error)]
    return float(finite.mean()) if finite.numel() > 0.1 * error.numel() else float("inf")
