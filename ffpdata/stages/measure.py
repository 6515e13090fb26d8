"""Measure a pair and check it against its task's limits, before a vision-language model is asked about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ffpdata.core.stage import Reject, Row, Stage, StageSettings
from ffpdata.media import metrics
from ffpdata.media.clip_cache import cached_masks, cached_video
from ffpdata.media.flow import warp_error
from ffpdata.media.phash import clip_hashes
from ffpdata.metrics.limits import Limits, beyond
from ffpdata.metrics.pair import Pair
from ffpdata.metrics.vector import VECTOR, measure_pair
from ffpdata.stages._tasks import known

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

    name, version = "measure", 3
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
        source, target = cached_video(row.file("source_video")), cached_video(row.file("target_video"))
        pairs = range(0, len(source) - 1, self.settings.step)
        columns: dict[str, Any] = {
            "source_hash": clip_hashes(source),
            "target_hash": clip_hashes(target),
            # Increase of the warp error from source to target: 0 where the edit adds no flicker.
            "flicker": max(0.0, warp_error(target, pairs=pairs) - warp_error(source, pairs=pairs)),
        }
        small, edited = (metrics.subsample(frames, self.settings.step) for frames in (source, target))
        columns |= {
            "motion": metrics.motion(small),
            "change": metrics.mean_change(small, edited),
            "structure": metrics.structure(small, edited),
        }
        task, condition, outline = known(row["task"]), None, None
        if row.get("condition_mask"):
            condition = cached_masks(row.file("condition_mask"))
            outline = cached_masks(row.file("mask_video")) if row.get("mask_video") else None
            region = metrics.subsample(condition, self.settings.step)
            columns |= {
                "psnr_outside": metrics.psnr(small, edited, ~region),
                "colour_drift": metrics.colour_drift(small, edited, ~region),
            }
            inside = region
            if not task.around and outline is not None:
                inside = metrics.subsample(outline, self.settings.step)
            columns["change_inside"] = metrics.mean_change(small, edited, inside)
        else:
            columns["colour_drift"] = metrics.colour_drift(small, edited)
        pair = Pair(source, target, region=condition, outline=outline, removes=task.removes, around=task.around)
        columns |= measure_pair(pair)
        if found := beyond(self.settings.limits.get(row["task"], {}), {**(row.get("edit_facts") or {}), **columns}):
            raise Reject(*found, columns)
        return columns
