"""The facade of the live path: uint8 image in, depth in metres and valid mask out."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ssmde_ros.errors import SsmdeError
from ssmde_ros.geometry import CameraCalibration, PinholeCamera, Rectifier
from ssmde_ros.networks import DepthNetConfig, WeightsError
from ssmde_ros.runtime.engines import Engine, EngineConfig
from ssmde_ros.runtime.fitter import ImageFitter
from ssmde_ros.runtime.models import open_model
from ssmde_ros.runtime.upsample import DepthUpsampler

log = logging.getLogger(__name__)

_KEPT_ENGINES = 3  # image sizes to stay compiled for, should a camera switch back and forth
_SLACK = 1.001  # for what interpolation rounds beyond the extremes of a map
_SQUEEZE = 0.1  # log of the aspect; the sizes that a network takes differ by so much from a camera's
_FLIP_TOLERANCE = 0.1  # log depth; a disagreement of ten per cent gives confidence 1/e


@dataclass(frozen=True)
class EstimatorConfig:
    """Settings of the live path.

    Attributes:
        engine: which engine, where.
        input_size: network (width, height), multiples of 32, or (0, 0) to follow the camera's aspect
            at the area the weights were trained for.
        full_size: depth at camera size (up-sampled); otherwise at network size.
        rectify: undo the lens distortion that the calibration describes.
        scale: factor on the network's depth, metres per network unit.
        min_depth, max_depth: metres; nearer is -inf, farther +inf (REP 117).
    """

    engine: EngineConfig = field(default_factory=EngineConfig)
    input_size: tuple[int, int] = (0, 0)
    full_size: bool = True
    rectify: bool = True
    scale: float = 1.0
    min_depth: float = 0.1
    max_depth: float = 80.0

    def __post_init__(self) -> None:
        if any(side < 0 or side % 32 for side in self.input_size) or (0 in self.input_size and any(self.input_size)):
            raise ValueError(f"input_size must be two multiples of 32, or 0 0, got {self.input_size}")
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be positive, got {self.scale}")
        if not 0 <= self.min_depth < self.max_depth:
            raise ValueError(f"min_depth must be below max_depth, got {self.min_depth} and {self.max_depth}")

    def usual_size(self, net: DepthNetConfig) -> tuple[int, int]:
        """Network (width, height) before there is an image."""
        return self.input_size if any(self.input_size) else (net.input_width, net.input_height)

    def size_for(self, width: int, height: int, net: DepthNetConfig) -> tuple[int, int]:
        """Network (width, height) for images of a camera."""
        return self.input_size if any(self.input_size) else network_size(width, height, net)


@dataclass(frozen=True)
class DepthFrame:
    """The result for one image. Arrays are views into buffers that the next frame overwrites: ask for all before it.

    Attributes:
        depth: `[H, W]` float32 metres along the optical axis; -inf too near, +inf too far, NaN unknown.
        view: makes `image`.
        camera: of both, or None without a calibration.
        confidence: `[H, W]` float32 in [0, 1], or None when not asked for.
        stages_ms: wall time of preprocess, inference and postprocess.
    """

    depth: NDArray[np.float32]
    view: Callable[[], NDArray[np.uint8]] = field(repr=False)
    camera: PinholeCamera | None
    confidence: NDArray[np.float32] | None
    stages_ms: dict[str, float]

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """`[H, W]`, where depth is finite; made when first asked for."""
        return np.isfinite(self.depth)

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        """`[H, W, 3]` RGB, rectified, the same view and size as the depth; made when first asked for."""
        return self.view()


@lru_cache(maxsize=16)  # a search of a thousand sizes: half a millisecond of every frame
def network_size(width: int, height: int, config: DepthNetConfig) -> tuple[int, int]:
    """Network (width, height) for a camera: multiples of 32, near its aspect and the trained area."""
    area, aspect = config.input_width * config.input_height, width / height

    def cost(size: tuple[int, int]) -> float:
        return abs(math.log(size[0] / size[1] / aspect)) + 0.5 * abs(math.log(size[0] * size[1] / area))

    sides = range(64, 1025, 32)
    return min(itertools.product(sides, sides), key=cost)


class DepthEstimator:
    """Depth of images from one weights or exported file. Not thread-safe: one caller at a time.

    Attributes:
        config: may be replaced between frames, all but its engine.
        identity: which weights it has.
        engine: the one used last.

    Raises:
        WeightsError: unusable weights, or weights whose depth on a probe image is unusable.
        SsmdeError: the engine is not available, or the file takes another size.
    """

    def __init__(self, weights: Path, config: EstimatorConfig | None = None) -> None:
        self.config = config or EstimatorConfig()
        self._model = open_model(weights)
        self.identity = self._model.identity
        if self._model.size is not None and self.config.input_size not in ((0, 0), self._model.size):
            width, height = self._model.size
            raise SsmdeError(f"{weights} takes {width}x{height} only: leave input_width and input_height at 0")
        self._warned = False
        self._engines: dict[tuple[int, int], Engine] = {}
        self._fitter: ImageFitter | None = None
        self._rectifier: Rectifier | None = None
        self._upsampler = DepthUpsampler((1, 1))
        self.engine = self._engine(self._model.size or self.config.usual_size(self.identity.config))
        self._probe()

    def _probe(self) -> None:
        """Refuse weights that load but do not yield depth."""
        width, height = next(iter(self._engines))
        ramp = np.linspace(0, 255, width, dtype=np.uint8)
        depth = self.engine.infer(np.ascontiguousarray(np.broadcast_to(ramp[None, :, None], (height, width, 3))))
        low, high = self.identity.config.min_depth, self.identity.config.max_depth
        if not np.isfinite(depth).all() or depth.min() < 0.99 * low or depth.max() > 1.01 * high:
            raise WeightsError(f"weights {self.identity} give depth outside {low} to {high} m on a probe image")

    def _engine(self, size: tuple[int, int]) -> Engine:
        if size not in self._engines:
            if len(self._engines) == _KEPT_ENGINES:
                self._engines.pop(next(iter(self._engines)))
            self._engines[size] = self._model.engine((size[1], size[0]), self.config.engine)
        return self._engines[size]

    def estimate(
        self, image: NDArray[np.uint8], calibration: CameraCalibration | None = None, with_confidence: bool = False
    ) -> DepthFrame:
        """Depth of one image.

        Args:
            image: `[H, W, 3]` RGB.
            calibration: of the camera, for the same size; None leaves the image as it is.
            with_confidence: also compare with the mirrored image, at the price of a second inference.

        Raises:
            ValueError: an image that is not `[H, W, 3]` uint8, or of another size than calibrated.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
            raise ValueError(f"need an [H, W, 3] uint8 image, got {image.shape} {image.dtype}")
        height, width = image.shape[:2]
        if calibration and (calibration.width, calibration.height) != (width, height):
            raise ValueError(
                f"the image is {width}x{height}, its calibration for {calibration.width}x{calibration.height}"
            )
        started = time.perf_counter()
        size = self.config.size_for(width, height, self.identity.config)
        if self._model.size is not None and size != self._model.size:
            self._warn_of_shape(size)
            size = self._model.size
        self.engine = self._engine(size)
        bent = calibration if calibration and self.config.rectify and calibration.needs_rectification else None
        small = self._fitted(image, size, bent)
        prepared = time.perf_counter()
        raw = self.engine.infer(small)
        confidence = None
        if with_confidence:
            raw = raw.copy()  # the second inference overwrites the engine's buffer
            confidence = self._confidence(raw, small)
        inferred = time.perf_counter()
        full, camera = self.config.full_size, calibration.rectified() if calibration else None
        size = (width, height) if full else size
        depth = self._finish(raw, size, self._unknown(full))
        if confidence is not None and confidence.shape != depth.shape:
            confidence = cv2.resize(confidence, size, interpolation=cv2.INTER_LINEAR)
        stages = [prepared - started, inferred - prepared, time.perf_counter() - inferred]
        names = ("preprocess", "inference", "postprocess")
        return DepthFrame(
            depth, partial(self._rectified, image) if full else lambda: small,
            camera if camera is None or full else camera.resized(*size), confidence,
            {name: 1e3 * seconds for name, seconds in zip(names, stages, strict=True)},
        )  # fmt: skip

    def _warn_of_shape(self, better: tuple[int, int]) -> None:
        """Once: an exported file for one size squeezes what has another shape.

        Args:
            better: (width, height) that the camera's shape asks for.
        """
        if not self._warned and self._model.size is not None:
            self._warned = True
            (width, height), (wide, high) = self._model.size, better
            if abs(math.log(width * high / height / wide)) > _SQUEEZE:
                log.warning(
                    "%s takes %dx%d, and the camera's shape asks for %dx%d: its image is squeezed; export with --size %dx%d",
                    self.identity.path, width, height, *better, *better,
                )  # fmt: skip

    def _fitted(
        self, image: NDArray[np.uint8], size: tuple[int, int], bent: CameraCalibration | None
    ) -> NDArray[np.uint8]:
        """What the network takes, `[h, w, 3]`; keeps what is needed to do it again for the next image."""
        source = (image.shape[1], image.shape[0])
        known = self._fitter
        if known is None or (known.source, known.size, known.calibration) != (source, size, bent):
            self._fitter, self._rectifier = (known := ImageFitter(source, size, bent)), None
        return known(image)

    def _full(self) -> Rectifier | None:
        """Of the camera at its own size, for who looks at that; None where there is nothing to undo."""
        bent = self._fitter.calibration if self._fitter else None
        if self._rectifier is None and bent is not None:
            self._rectifier = Rectifier(bent)
        return self._rectifier

    def _rectified(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        rectifier = self._full()
        return image if rectifier is None else rectifier(image)

    def _unknown(self, full: bool) -> NDArray[np.uint8] | None:
        known = self._full() if full else self._fitter
        return None if known is None else known.unknown

    def _confidence(self, depth: NDArray[np.float32], image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Agreement with the mirrored image: `exp(-|log D - log D_flip| / 0.1)`, `[h, w]` in [0, 1]."""
        mirrored = self.engine.infer(np.ascontiguousarray(image[:, ::-1]))[:, ::-1]
        agreement: NDArray[np.float32] = np.exp(-np.abs(np.log(depth / mirrored)) / _FLIP_TOLERANCE)
        return agreement

    def _finish(
        self, raw: NDArray[np.float32], size: tuple[int, int], unknown: NDArray[np.uint8] | None
    ) -> NDArray[np.float32]:
        """Up-sample, scale, and mark what lies outside the range (REP 117)."""
        if self._upsampler.size != (size[1], size[0]):
            self._upsampler = DepthUpsampler((size[1], size[0]))
        depth = self._upsampler(raw)
        if self.config.scale != 1:
            depth *= self.config.scale
        # Up-sampling stays between what it is given, so most maps need no search at full size; those with NaN do.
        low, high = self.config.scale * raw.min(), self.config.scale * raw.max()
        if not low > self.config.min_depth * _SLACK:
            np.copyto(depth, -np.inf, where=depth < self.config.min_depth)
        if not high * _SLACK < self.config.max_depth:
            np.copyto(depth, np.inf, where=depth > self.config.max_depth)
        if unknown is not None:
            np.copyto(depth, np.nan, where=unknown.view(bool))
        return depth
