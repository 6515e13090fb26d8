"""Measure a pair and check it against its task's limits, before a vision-language model is asked about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ffpdata.core.stage import Reject, Row, Stage, StageSettings
from ffpdata.media import metrics
from ffpdata.media.clip_cache import cached_masks, cached_video
from ffpdata.media.flow import warp_error
from ffpdata.media.phash import clip_hashes
from ffpdata.metrics.limits import Limits, beyond
from ffpdata.metrics.pair import Pair
from ffpdata.metrics.vector import VECTOR, measure_pair
from ffpdata.stages._tasks import known

if TYPE_CHECKING:
    from ffpdata.models.protocols import Frames, Masks

METRICS = (
    "psnr_outside",
    "change_inside",
    "change",
    "colour_drift",
    "structure",
    "flicker",
    "motion",
)
"""Columns of this stage that later stages pass to models that measure. Those of `metrics.vector.VECTOR` are not among
them: no answer depends on them, so that a new metric asks no question again."""


class MeasureSettings(StageSettings):
    """Limits per task."""

    limits: dict[str, Limits] = {}
    """Task to number to bounds. Numbers are this stage's columns and those of `edit_facts`."""
    step: int = 4
    """Distance in frames between the measured frames, or pairs of neighbouring frames."""


class Measure(Stage):
    """Write the metrics; a pair outside its task's limits is rejected as `<number>_too_low` or `_too_high`."""

    name, version = "measure", 4
    reads = ("source_video", "target_video", "mask_video", "condition_mask", "edit_facts", "task")
    optional = ("mask_video", "condition_mask", "edit_facts")
    writes = {
        **dict.fromkeys((*METRICS, *(metric.name for metric in VECTOR)), float),
        "source_hash": list[str],
        "target_hash": list[str],
    }
    Settings = MeasureSettings

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the metrics and the perceptual hashes."""
        source, target = (cached_video(row.file(f"{side}_video")) for side in ("source", "target"))
        condition = cached_masks(row.file("condition_mask")) if row.get("condition_mask") else None
        outline = cached_masks(row.file("mask_video")) if condition is not None and row.get("mask_video") else None
        columns: dict[str, Any] = {"source_hash": clip_hashes(source), "target_hash": clip_hashes(target)}
        columns |= basic_numbers(source, target, row["task"], condition, outline, step=self.settings.step)
        columns |= measure_pair(pair_of(source, target, row["task"], condition, outline))
        if found := beyond(self.settings.limits.get(row["task"], {}), {**(row.get("edit_facts") or {}), **columns}):
            raise Reject(*found, columns)
        return columns


def pair_of(source: Frames, target: Frames, task: str, condition: Masks | None, outline: Masks | None) -> Pair:
    """Return a pair as the metrics see it; arguments as of `basic_numbers`."""
    found = known(task)
    return Pair(source, target, region=condition, outline=outline, removes=found.removes, around=found.around)


def basic_numbers(
    source: Frames, target: Frames, task: str, condition: Masks | None, outline: Masks | None, *, step: int
) -> dict[str, float]:
    """Measure `METRICS`.

    Args:
        source: uint8 (T, H, W, 3) RGB.
        target: the same after the edit.
        task: of the edit.
        condition: bool (T, H, W), what it may repaint; None where that is the whole picture.
        outline: bool (T, H, W), the object; None where there is none.
        step: distance in frames between the measured ones.
    """
    pairs = range(0, len(source) - 1, step)
    small, edited = (metrics.subsample(frames, step) for frames in (source, target))
    found = {
        # Increase of the warp error from source to target: 0 where the edit adds no flicker.
        "flicker": max(0.0, warp_error(target, pairs=pairs) - warp_error(source, pairs=pairs)),
        "motion": metrics.motion(small),
        "change": metrics.mean_change(small, edited),
        "structure": metrics.structure(small, edited),
    }
    if condition is None:
        return found | {"colour_drift": metrics.colour_drift(small, edited)}
    region = metrics.subsample(condition, step)
    inside = region
    if not known(task).around and outline is not None:
        inside = metrics.subsample(outline, step)
    return found | {
        "psnr_outside": metrics.psnr(small, edited, ~region),
        "colour_drift": metrics.colour_drift(small, edited, ~region),
        "change_inside": metrics.mean_change(small, edited, inside),
    }
