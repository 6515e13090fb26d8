"""Measure an output beside its source without a model, over the whole picture: no mask says where the edit is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from pydantic import Field

from ffpdata.core.stage import Row, Stage, StageSettings
from ffpdata.media import metrics
from ffpdata.media.clip_cache import cached_video
from ffpdata.media.flow import warp_error
from ffpdata.metrics.pair import Pair
from ffpdata.metrics.vector import VECTOR, measure_pair

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]

BASIC = ("change", "structure", "motion", "flicker", "colour_drift")


class PairMetricsSettings(StageSettings):
    """How clips are compared."""

    step: int = Field(4, ge=1)
    """Distance in frames between those that are compared, as in `measure`."""
    aspect_tolerance: float = Field(0.02, ge=0)
    """Largest relative difference of the aspect ratios: clips of other shapes do not show the same picture."""


class PairMetrics(Stage):
    """Write the metrics of `measure` that need no mask; an item without a source gets a row without them."""

    name, version = "pair_metrics", 1
    reads = ("source_video", "target_video")
    optional = ("source_video",)
    writes = {**dict.fromkeys((*BASIC, *(metric.name for metric in VECTOR)), float), "compared": bool}
    Settings = PairMetricsSettings

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the metrics, all at the output's size; `compared` is false where the clips cannot be compared."""
        if not row.get("source_video"):
            return {"compared": False}
        source, target = (cached_video(row.file(f"{side}_video")) for side in ("source", "target"))
        ratios = [frames.shape[2] / frames.shape[1] for frames in (source, target)]
        if len(source) != len(target) or len(source) < 2 or abs(ratios[0] / ratios[1] - 1) > self._tolerance:
            return {"compared": False}
        source = resized(source, target.shape[2], target.shape[1])
        small, edited = (metrics.subsample(frames, self.settings.step) for frames in (source, target))
        pairs = range(0, len(source) - 1, self.settings.step)
        found = {
            "compared": True,
            "change": metrics.mean_change(small, edited),
            "structure": metrics.structure(small, edited),
            "motion": metrics.motion(small),
            "flicker": max(0.0, warp_error(target, pairs=pairs) - warp_error(source, pairs=pairs)),
            "colour_drift": metrics.colour_drift(small, edited),
        }
        return found | measure_pair(Pair(source, target))

    @property
    def _tolerance(self) -> float:
        return float(self.settings.aspect_tolerance)


def resized(frames: Frames, width: int, height: int) -> Frames:
    """Return frames, uint8 (T, H, W, 3), at a size; as they are where they have it."""
    if frames.shape[1:3] == (height, width):
        return frames
    how = cv2.INTER_AREA if frames.shape[2] > width else cv2.INTER_CUBIC
    return np.stack([cv2.resize(frame, (width, height), interpolation=how) for frame in frames])
