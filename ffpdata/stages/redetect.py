"""Look for the object again: gone from the target of a removal, still there in every frame of a modification.

A detector looks at the same part of source and target. What it does not see in the source it cannot miss in the target:
such pairs pass, and their row says in how many frames it saw the object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ffpdata.core.stage import Reject, Row, Stage, StageSettings
from ffpdata.media.clip_cache import cached_masks, cached_video
from ffpdata.media.masks import bounding_boxes
from ffpdata.models.pretrained.detector import area, overlap, share_inside
from ffpdata.stages._tasks import known

if TYPE_CHECKING:
    from ffpdata.models.protocols import Box, Detection, Detector, Frames, Masks

ROLE = "detector"

_MARGIN = 0.5
"""Margin on each side of the object, of its longer side: detectors need to see what is around a thing."""
_PLACE = 0.5
"""Overlap of a detection with the object's box, intersection over union, from which it is at the object's place."""
_WITHIN, _PART = 0.75, 0.25
"""Share of a detection that lies in the object's box, and of the box's area that it has, from which it may be a part of
an object that was not wholly removed."""


class RedetectSettings(StageSettings):
    """Frames that are looked at, and limits."""

    step: int = Field(8, ge=1)
    """Distance between the frames that are looked at."""
    sure: float = Field(0.4, ge=0, le=1)
    """Score from which the object counts as seen in the source."""
    still: float = Field(0.32, ge=0, le=1)
    """Score from which a removed object counts as still there: a ghost at half opacity has more, a good fill less."""
    kept: float = Field(0.5, ge=0, le=1)
    """Part of its score in the source from which an edited object counts as still there."""
    max_still: float = Field(0.2, ge=0, le=1)
    """Removal: largest part of the frames, of those in which the source shows it, with the object still there."""
    min_kept: float = Field(0.6, ge=0, le=1)
    """Modification: smallest part of these frames with the object still there."""


@dataclass(frozen=True)
class Sighting:
    """What a detector saw in one frame, label to score.

    Attributes:
        source: at the object's place in the source.
        target: at its place in the target.
        parts: of what fills a part of its place in the target and is nothing else that the source shows.
    """

    source: dict[str, float]
    target: dict[str, float]
    parts: dict[str, float]


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
        source, target = (cached_video(row.file(f"{side}_video")) for side in ("source", "target"))
        masks = cached_masks(row.file("mask_video"))
        sightings = look(self.model(ROLE), source, target, masks, self.settings)
        return judge(sightings, self.settings, removes=known(row["task"]).removes)


def look(
    detector: Detector, source: Frames, target: Frames, masks: Masks, settings: RedetectSettings
) -> list[Sighting]:
    """Look at the object's place in source and target.

    Args:
        detector: whose eyes they are.
        source: uint8 (T, H, W, 3) RGB.
        target: the same after the edit.
        masks: bool (T, H, W), the object in the source.
        settings: which frames.
    """
    boxes = bounding_boxes(masks).tolist()
    found = []
    for t in range(0, len(source), settings.step):
        if boxes[t][2] <= boxes[t][0]:
            continue
        crop, place = _around(boxes[t], source.shape[1:3])
        before = detector.detect(source[t][crop])
        here, others = _split(place, before)
        if _best(here) >= settings.sure:
            after = detector.detect(target[t][crop])
            found.append(Sighting(here, _split(place, after)[0], _parts(place, after, others)))
    return found


def judge(sightings: Sequence[Sighting], settings: RedetectSettings, *, removes: bool) -> dict[str, Any]:
    """Return the columns of the stage.

    Args:
        sightings: of the frames whose source shows the object.
        settings: the limits.
        removes: whether the object is to be gone.

    Raises:
        Reject: `object_still_there` or `object_destroyed`, with the columns.
    """
    if not sightings:
        return {"redetect_label": None, "redetect_frames": 0, "redetect_share": None}
    scores: dict[str, float] = {}
    for one in sightings:  # frames may differ in what they call it: a dog, a cat
        for label, score in one.source.items():
            scores[label] = scores.get(label, 0.0) + score
    after = 0
    for one in sightings:
        least = settings.still if removes else settings.kept * _best(one.source)
        found = _both(one.target, one.parts) if removes else one.target
        after += _best({label: score for label, score in found.items() if label in scores}) >= least
    label = max(scores, key=lambda label: (scores[label], label))
    share = round(after / len(sightings), 4)
    columns = {"redetect_label": label, "redetect_frames": len(sightings), "redetect_share": share}
    told = f"a {label} is seen at its place in {after} of the {len(sightings)} frames in which the source shows it"
    if removes and share > settings.max_still:
        raise Reject("object_still_there", f"{told}, at most {settings.max_still:g} of them", columns)
    if not removes and share < settings.min_kept:
        raise Reject("object_destroyed", f"{told}, at least {settings.min_kept:g} of them", columns)
    return columns


def _around(box: Box, size: tuple[int, int]) -> tuple[tuple[slice, slice], Box]:
    """Return the part of a frame of `size` (height, width) around a box, and the box in it."""
    x0, y0, x1, y1 = box
    margin = _MARGIN * max(x1 - x0, y1 - y0)
    left, top = max(0, int(x0 - margin)), max(0, int(y0 - margin))
    right, bottom = min(size[1], int(x1 + margin) + 1), min(size[0], int(y1 + margin) + 1)
    return (slice(top, bottom), slice(left, right)), (x0 - left, y0 - top, x1 - left, y1 - top)


def _split(place: Box, found: Sequence[Detection]) -> tuple[dict[str, float], list[Detection]]:
    """Return the scores by label of what was found at a place, and what was found elsewhere."""
    here = [one for one in found if overlap(one.box, place) >= _PLACE]
    return _scores(here), [one for one in found if one not in here]


def _parts(place: Box, found: Sequence[Detection], others: Sequence[Detection]) -> dict[str, float]:
    """Return the scores of what fills a part of a place and was not seen beside the object before."""
    parts = [one for one in found if share_inside(one.box, place) >= _WITHIN and area(one.box) >= _PART * area(place)]
    return _scores([one for one in parts if not any(overlap(one.box, other.box) >= _PLACE for other in others)])


def _scores(found: Sequence[Detection]) -> dict[str, float]:
    return {one.label: one.score for one in sorted(found, key=lambda one: one.score)}


def _both(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {label: max(one.get(label, 0.0), other.get(label, 0.0)) for label in {*one, *other}}


def _best(scores: Mapping[str, float]) -> float:
    return max(scores.values(), default=0.0)
