"""Training samples: a target frame, its neighbours, and what is known about the motion between them.

Sample number i is a pure function of the seed: a resumed run, and every process of a parallel one, knows
what it has to read without being told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ssmde_ros.data.augmentation import jitter_colors
from ssmde_ros.data.clip import Clip, ClipError
from ssmde_ros.data.other_camera import OtherCamera, mirrored, recomposed
from ssmde_ros.data.pair_motion import POINTS, PairMotion


@dataclass(frozen=True)
class TripletConfig:
    """How samples are drawn.

    Attributes:
        gaps: distances k between target and source frames (t - k, t + k), one drawn per sample.
        flip: mirror half of the samples.
        jitter: strength of the color augmentation that only the networks see, not the losses.
        zoom: largest enlargement less one of a random crop; the intrinsics follow.
        roll: largest roll of the camera about its optical axis, degrees; the motions follow.
        tilt: largest turn of the camera up or down, and to either side, degrees. Students read depth off the height
            in the image, which holds for one recording; tilted, they have to look for something better.
        seed: everything random follows from it.

    Raises:
        ValueError: no gap, or one that is not positive, or a jitter that is not below 1.
    """

    gaps: tuple[int, ...] = (1,)
    flip: bool = True
    jitter: float = 0.2
    zoom: float = 0.0
    roll: float = 0.0
    tilt: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.gaps or min(self.gaps) < 1:
            raise ValueError(f"gaps must be positive frame distances, got {self.gaps}")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"jitter must lie in [0, 1), got {self.jitter}")
        if not 0 <= self.zoom <= 1 or not 0 <= self.roll <= 45:
            raise ValueError(f"zoom must lie in [0, 1] and roll in [0, 45] degrees, got {self.zoom} and {self.roll}")
        if not 0 <= self.tilt <= 20:
            raise ValueError(f"tilt must lie in [0, 20] degrees, got {self.tilt}")


@dataclass
class Batch:
    """B samples with S source frames each.

    Attributes:
        frames: `[B, 1+S, 3, H, W]` clean images in [0, 1]; the target comes first.
        augmented: the same under other colors: what student and pose network see.
        intrinsics: K `[B, 3, 3]`, pixels.
        motions: `T_{t->s}` `[B, S, 4, 4]` from an ego-motion aid; identity where unknown.
        motion_known, motion_metric: `[B, S]` bool; a known motion that is not metric has a translation of unit length.
        pixels: `[B, S, P, 2]` (u, v) of triangulated points in the target.
        inverse_depth: `[B, S, P]` theirs, in units of the translation, 0 where there is none.
        inside: `[B, 1, H, W]` bool, pixels that the recording shows; the others were made up by zooming and turning.
        pseudo: pseudo-depth of the target `[B, 1, H, W]`, unknown scale and shift; None without a provider.
        depth, moving: truth of the target `[B, 1, H, W]` where there is one; no self-supervised term reads it.
        clip, index: which frames these are, `[B]`.
        number: of each sample, `[B]`; seeds whatever a loss draws at random for it.
    """

    frames: Tensor
    augmented: Tensor
    intrinsics: Tensor
    motions: Tensor
    motion_known: Tensor
    motion_metric: Tensor
    pixels: Tensor
    inverse_depth: Tensor
    inside: Tensor
    pseudo: Tensor | None
    depth: Tensor | None
    moving: Tensor | None
    clip: Tensor
    index: Tensor
    number: Tensor

    def to(self, device: torch.device | str) -> Batch:
        """A copy on another device."""
        moved: dict[str, Any] = {
            f.name: v.to(device) for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)


@dataclass
class TrainingClip:
    """A clip with what was worked out about it.

    Attributes:
        motions: by (target, source), see `pair_motions`; empty without an ego-motion aid.
        pseudo: `[N, 1, H, W]` pseudo-depth of each frame, None without a provider.
        pseudo_convention: what it is affine in, "depth" or "inverse_depth".
        gaps: by number of the target frame, the gaps it may be used with; None leaves every frame with those of the
            configuration.
    """

    clip: Clip
    motions: dict[tuple[int, int], PairMotion] = field(default_factory=dict)
    pseudo: Tensor | None = None
    pseudo_convention: str = "inverse_depth"
    gaps: dict[int, tuple[int, ...]] | None = None

    def targets(self, gaps: Sequence[int]) -> dict[int, list[int]]:
        """Target frames, each with the gaps whose sources lie inside the clip."""
        length = len(self.clip)
        wanted = dict.fromkeys(range(length), tuple(gaps)) if self.gaps is None else self.gaps
        inside = {t: [k for k in kept if t - k >= 0 and t + k < length] for t, kept in wanted.items()}
        return {t: kept for t, kept in inside.items() if kept}


def wanted_pairs(item: TrainingClip, gaps: Sequence[int]) -> list[tuple[int, int]]:
    """All (target, source) pairs of a clip that samples may use."""
    return [(t, t + d) for t, kept in item.targets(gaps).items() for k in kept for d in (-k, k)]


def known_gaps(item: TrainingClip, gaps: Sequence[int], min_points: int) -> dict[int, tuple[int, ...]]:
    """Of the gaps of each target frame, those at which the motions to both sources are known.

    Args:
        min_points: triangulated points that a motion of unit length must have.
    """

    def known(target: int, source: int) -> bool:
        pair = item.motions.get((target, source))
        return pair is not None and (pair.metric or int((pair.inverse_depth > 0).sum()) >= min_points)

    kept = {t: tuple(k for k in g if known(t, t - k) and known(t, t + k)) for t, g in item.targets(gaps).items()}
    return {t: g for t, g in kept.items() if g}


class Triplets:
    """Batches in order, from any step on: `for batch in triplets` after `triplets.start = step`.

    Args:
        clips: recordings of one working size.
        batch_size: samples per process.
        steps: how many batches there are.
        rank, world: this process and how many share each step.

    Raises:
        ClipError: no clip is long enough for the gaps, or the clips differ in size.
    """

    def __init__(
        self,
        clips: Sequence[TrainingClip],
        config: TripletConfig,
        batch_size: int,
        steps: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.clips, self.config, self.batch_size, self.steps = list(clips), config, batch_size, steps
        self.rank, self.world, self.start = rank, world, 0
        sizes = sorted({tuple(item.clip.images.shape[:1:-1]) for item in self.clips})
        if len(sizes) > 1:
            raise ClipError(f"clips must share one size, got {', '.join(f'{w}x{h}' for w, h in sizes)}")
        smallest = min(config.gaps)
        self._gaps = {
            (number, t): kept for number, item in enumerate(self.clips) for t, kept in item.targets(config.gaps).items()
        }
        self.targets = list(self._gaps)
        if not self.targets:
            raise ClipError(f"no clip has more than {2 * smallest} frames, which a frame gap of {smallest} needs")

    @property
    def steps_per_epoch(self) -> float:
        """Steps until each target frame was seen once on average."""
        return len(self.targets) / (self.batch_size * self.world)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.start, self.steps):
            yield self.batch(step)

    def batch(self, step: int) -> Batch:
        """Batch number `step` of this process."""
        first = (step * self.world + self.rank) * self.batch_size
        return _stack([self.sample(first + j) for j in range(self.batch_size)])

    def sample(self, number: int) -> dict[str, Tensor | None]:
        """Sample number `number`, a pure function of the seed."""
        epoch, place = divmod(number, len(self.targets))
        order = np.random.default_rng([self.config.seed, epoch]).permutation(len(self.targets))
        which, target = self.targets[order[place]]
        rng = np.random.default_rng([self.config.seed, 1, number])
        item = self.clips[which]
        gap = int(rng.choice(self._gaps[which, target]))
        sample = _gather(item, target, (target - gap, target + gap), which)
        if self.config.flip and rng.random() < 0.5:
            sample = mirrored(sample)
        config = self.config
        if config.zoom or config.roll or config.tilt:
            camera = OtherCamera.drawn(rng, config.zoom, math.radians(config.roll), math.radians(config.tilt))
            sample = recomposed(sample, camera, item.pseudo_convention)
        frames = sample["frames"]
        assert frames is not None
        return {**sample, "number": torch.tensor(number), "augmented": jitter_colors(frames, rng, self.config.jitter)}


def _gather(item: TrainingClip, target: int, sources: tuple[int, ...], which: int) -> dict[str, Tensor | None]:
    clip = item.clip
    pairs = [item.motions.get((target, s)) for s in sources]
    nothing = torch.zeros(POINTS, 2), torch.zeros(POINTS)
    return {
        "frames": clip.images[[target, *sources]].float() / 255,
        "intrinsics": clip.camera.matrix(),
        "motions": torch.stack([p.motion if p else torch.eye(4) for p in pairs]),
        "motion_known": torch.tensor([p is not None for p in pairs]),
        "motion_metric": torch.tensor([p is not None and p.metric for p in pairs]),
        "pixels": torch.stack([p.pixels if p else nothing[0] for p in pairs]),
        "inverse_depth": torch.stack([p.inverse_depth if p else nothing[1] for p in pairs]),
        "inside": torch.ones(1, *clip.images.shape[2:], dtype=torch.bool),
        "pseudo": item.pseudo[target] if item.pseudo is not None else None,
        "depth": clip.depth[target] if clip.depth is not None else None,
        "moving": clip.moving[target] if clip.moving is not None else None,
        "clip": torch.tensor(which),
        "index": torch.tensor(target),
    }


def _stack(samples: list[dict[str, Tensor | None]]) -> Batch:
    def column(key: str) -> Tensor | None:
        values = [v for s in samples if (v := s[key]) is not None]
        return torch.stack(values) if len(values) == len(samples) else None

    return Batch(**{key: column(key) for key in samples[0]})  # type: ignore[arg-type]
