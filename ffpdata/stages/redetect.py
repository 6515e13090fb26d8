"""Look for the object again: gone from the target of a removal, still there in every frame of a modification.

A detector looks at the same part of source and target. What it does not see in the source it cannot miss in the target:
such pairs pass, and their row says in how many frames it saw the object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ffpdata.core.stage import Reject, Row, Stage, StageSettings
from ffpdata.media.clip_cache import cached_masks, cached_video
from ffpdata.media.masks import bounding_boxes
from ffpdata.models.pretrained.detector import overlap
from ffpdata.stages._tasks import known

if TYPE_CHECKING:
    from ffpdata.models.protocols import Box, Detection, Detector, Frames

ROLE = "detector"

_MARGIN = 0.5
"""Margin on each side of the object, of its longer side: detectors need to see what is around a thing."""
_PLACE = 0.5
"""Overlap of a detection with the object's box, intersection over union, from which it is at the object's place."""


class RedetectSettings(StageSettings):
    """Frames that are looked at, and limits."""

    step: int = Field(8, ge=1)
    """Distance between the frames that are looked at."""
    sure: float = Field(0.4, ge=0, le=1)
    """Score from which the object counts as seen in the source."""
    still: float = Field(0.3, ge=0, le=1)
    """Score from which a removed object counts as still there: a ghost of half its opacity has more, a good fill less."""
    kept: float = Field(0.5, ge=0, le=1)
    """Part of its score in the source from which an edited object counts as still there."""
    max_still: float = Field(0.2, ge=0, le=1)
    """Removal: largest part of the frames, of those in which the source shows it, with the object still there."""
    min_kept: float = Field(0.6, ge=0, le=1)
    """Modification: smallest part of these frames with the object still there."""


@dataclass
class _Sighting:
    """What a detector saw at the object's place in one frame: label to score."""

    source: dict[str, float] = field(default_factory=dict)
    target: dict[str, float] = field(default_factory=dict)


class Redetect(Stage):
    """Write what the detector saw. Without a detector in the profile, items pass it without a row."""

    name, version = "redetect", 1
    reads = ("source_video", "target_video", "mask_video", "task")
    optional = ("mask_video",)
    writes = {"redetect_label": str, "redetect_frames": int, "redetect_share": float}
    models = optional_models = (ROLE,)
    Settings = RedetectSettings

    def applies(self, row: Mapping[str, Any]) -> bool:
        """Edits of an object that is to go or to stay. A swap may make another kind of thing of it."""
        return ROLE in self.specs and bool(row.get("mask_video")) and row["task"] != "swap"

    def process(self, row: Row) -> Mapping[str, Any]:
        """Return the object's label, in how many frames of the source it was seen, and in which part of them after."""
        sightings = self._look(
            cached_video(row.file("source_video")),
            cached_video(row.file("target_video")),
            bounding_boxes(cached_masks(row.file("mask_video"))).tolist(),
        )
        removes = known(row["task"]).removes
        seen = [one for one in sightings if _best(one.source) >= self.settings.sure]
        if not seen:
            return {"redetect_label": None, "redetect_frames": 0, "redetect_share": None}
        scores: dict[str, float] = {}
        for one in seen:  # frames may differ in what they call it: a dog, a cat
            for label, score in one.source.items():
                scores[label] = scores.get(label, 0.0) + score
        after = 0
        for one in seen:
            least = self.settings.still if removes else self.settings.kept * _best(one.source)
            after += _best({label: score for label, score in one.target.items() if label in scores}) >= least
        columns = {
            "redetect_label": max(scores, key=lambda label: (scores[label], label)),
            "redetect_frames": len(seen),
            "redetect_share": round(after / len(seen), 4),
        }
        self._judge(columns, after, removes=removes)
        return columns

    def _look(self, source: Frames, target: Frames, boxes: Sequence[Box]) -> list[_Sighting]:
        detector: Detector = self.model(ROLE)
        found = []
        for t in range(0, len(source), self.settings.step):
            if boxes[t][2] <= boxes[t][0]:
                continue
            crop, place = _around(boxes[t], source.shape[1:3])
            before = _at(place, detector.detect(source[t][crop]))
            after = _at(place, detector.detect(target[t][crop])) if _best(before) >= self.settings.sure else {}
            found.append(_Sighting(before, after))
        return found

    def _judge(self, columns: dict[str, Any], after: int, *, removes: bool) -> None:
        settings = self.settings
        label, frames, share = columns["redetect_label"], columns["redetect_frames"], columns["redetect_share"]
        told = f"a {label} is seen at its place in {after} of the {frames} frames in which the source shows it"
        if removes and share > settings.max_still:
            raise Reject("object_still_there", f"{told}, at most {settings.max_still:g} of them", columns)
        if not removes and share < settings.min_kept:
            raise Reject("object_destroyed", f"{told}, at least {settings.min_kept:g} of them", columns)


def _around(box: Box, size: tuple[int, int]) -> tuple[tuple[slice, slice], Box]:
    """Return the part of a frame of `size` (height, width) around a box, and the box in it."""
    x0, y0, x1, y1 = box
    margin = _MARGIN * max(x1 - x0, y1 - y0)
    left, top = max(0, int(x0 - margin)), max(0, int(y0 - margin))
    right, bottom = min(size[1], int(x1 + margin) + 1), min(size[0], int(y1 + margin) + 1)
    return (slice(top, bottom), slice(left, right)), (x0 - left, y0 - top, x1 - left, y1 - top)


def _at(place: Box, found: Sequence[Detection]) -> dict[str, float]:
    """Return the scores of what was found at a place, by label."""
    here = sorted((one for one in found if overlap(one.box, place) >= _PLACE), key=lambda one: one.score)
    return {one.label: one.score for one in here}


def _best(scores: Mapping[str, float]) -> float:
    return max(scores.values(), default=0.0)
