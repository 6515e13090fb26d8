"""Segmentation of what a detector names or a saliency network sees, standing still or moving.

What to edit is chosen in the first frame, outlined by the saliency network in key frames, at full size around the
object, tied over time along the flow, and fitted in every frame to colours, edges and the background that is seen there
at other times. What goes wrong with that (an outline that flickers, an object half lost, ground taken with it, another
object) is measured and rejected.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from ffpdata.core.errors import Reject
from ffpdata.media import flow
from ffpdata.media import masks as masklib
from ffpdata.models.classical.segmenter.motion_segmenter import MotionSegmenter
from ffpdata.models.classical.segmenter.object_tracks import best_members
from ffpdata.models.classical.segmenter.pixel_evidence import ClipEvidence, enlarge, moving_difference
from ffpdata.models.mask_guards import GuardSettings, check_gates, check_mask_facts, clip_box, mask_facts
from ffpdata.models.packaged.litert_session import interpreter
from ffpdata.models.packaged.onnx_session import session
from ffpdata.models.pretrained.candidates import (
    GENERIC,
    MAX_AREA,
    MIN_AREA,
    Candidate,
    labels_of,
    named_candidates,
    salient_candidates,
    spoken,
    sure_boxes,
)
from ffpdata.models.pretrained.detector import MIN_SCORE, ObjectDetector, area, overlap
from ffpdata.models.pretrained.key_frames import KeyFrames
from ffpdata.models.pretrained.object_masks import object_masks
from ffpdata.models.pretrained.outline_facts import (
    agreed_name,
    first_outline_facts,
    found_facts,
    outline_facts,
    shape_facts,
)
from ffpdata.models.pretrained.salient import SalientObjects
from ffpdata.models.protocols import Box, Segmentation
from ffpdata.models.settings import parse_settings

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames


class DetectionSegmenterSettings(GuardSettings):
    """Settings of `DetectionSegmenter`: its limits. Areas are fractions of the frame."""

    most_tried: int = Field(3, ge=1)
    """How many things in the first frame are tried, until one is outlined within the limits."""
    max_border: float = Field(0.35, ge=0, le=1)
    """Largest share of the frame's border that the mask may cover (`mask_touches_border`)."""
    min_name_score: float = Field(0.38, ge=0, le=1)
    """Smallest mean score of the detections of a named object over the key frames (`name_unsure`)."""
    min_redetected: float = Field(0.6, ge=0, le=1)
    """Smallest share of the key frames in which a named object is detected again (`not_redetected`)."""
    min_box_fit: float = Field(0.6, ge=0, le=1)
    """Smallest mean overlap of the detector's box with that of the mask (`outline_disagrees`)."""
    min_outline_agreement: float = Field(0.85, ge=0, le=1)
    """Smallest mean overlap of the mask with the network's own outlines in the key frames (`outline_disagrees`)."""
    min_least_agreement: float = Field(0.6, ge=0, le=1)
    """The same in every single key frame (`object_half_lost`)."""
    min_least_share: float = Field(0.6, ge=0, le=1)
    """Smallest area of a frame over the median of those around it (`object_half_lost`)."""
    max_thick_change: float = Field(0.1, ge=0)
    """Largest part, no limb, that the mask gains or loses between key frames, over its area (`takes_another`): a
    neighbour or a piece of the scene."""
    max_thick_flicker: float = Field(0.02, ge=0)
    """Largest mean of such parts from frame to frame (`outline_flickers`)."""
    min_flow_iou: float = Field(0.8, ge=0, le=1)
    """Smallest mean overlap of a mask with its successor warped back by flow (`outline_flickers`)."""
    min_contour_contrast: float = Field(0.7, ge=0, le=1)
    """Smallest share of the contour across which colours differ (`takes_ground`): ground has no edge in it."""
    min_whole: float = Field(0.9, ge=0, le=1)
    """Smallest share of one piece in what was outlined by its motion alone (`takes_another`)."""
    max_holes: float = Field(0.12, ge=0, le=1)
    """Largest share of holes in the outline (`outline_has_holes`)."""
    max_unsure: float = Field(0.5, ge=0)
    """Largest area of which the network is unsure, over what it is sure of (`outline_unsure`)."""


_DETECTOR, _SALIENT = "objectron_ssd", "u2netp"
_SLOWEST = 0.8
"""Slowest motion relative to the camera that counts, pixels of the small copy per two frames."""
_POINTS = 250
"""Points for the estimate of the camera."""
_SURE = 0.45
"""Score of a detection that comes before whatever moves without a name."""
_SAME = 0.5
"""Overlap of two boxes that are one object."""
_STANDS_OUT = 0.8
"""How salient a thing without a name is, from which it comes before what moves."""
_UNNAMED = ("not_redetected", "name_unsure")
"""Reasons of a thing that may be edited, but not under that name."""
_HOPELESS = 0.7
"""Share of a limit below which a single frame decides."""
_EARLY = 3
"""What moves is a candidate where it is seen in one of the first frames, so many."""


class DetectionSegmenter:
    """The segmenter on pretrained networks that come inside packages.

    Facts of a result: those of `mask_guards.mask_facts`, `found_facts` and `outline_facts`, and `travel`, the distance
    that the object moves against the camera in its own sizes.
    """

    name = "detection_segmenter"
    version: int = 3
    Settings = DetectionSegmenterSettings

    @classmethod
    def packaged(cls, spec: ModelSpec) -> tuple[str, ...]:  # noqa: ARG003
        """Return the names of the networks that it runs."""
        return _DETECTOR, _SALIENT

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)
        self._detector = ObjectDetector(interpreter(_DETECTOR))
        self._salient = SalientObjects(session(_SALIENT))
        self._motion = MotionSegmenter(spec.model_copy(update={"settings": {}}))

    def close(self) -> None:
        """Free the networks."""
        del self._detector, self._salient

    def segment(self, frames: Frames, phrases: Sequence[str], box: Box | None = None) -> Segmentation:
        """Segment the first of `phrases` that is found and can be outlined, or the object in `box`.

        Args:
            frames: uint8 (T, H, W, 3) RGB.
            phrases: candidates in order of preference. A phrase that the detector has a class for is looked for by
                name; a generic one (`object`, `moving object`) takes the smallest salient thing that people edit; for
                any other word what moves or stands out without a name is taken.
            box: x0, y0, x1, y1 in pixels of the first frame.

        Raises:
            Reject: `no_target` where nothing is found, or the reason of the first thing that was found and tried.
        """
        evidence = ClipEvidence.of(frames, flow.camera_path(frames, points=_POINTS), _SLOWEST)
        keys = KeyFrames(frames, evidence.clip.shape[1:3], self._detector, self._salient)
        first: Reject | None = None
        tried: list[Box] = []
        for phrase, one in self._candidates(keys, evidence, frames, phrases, box):
            if any(overlap(one.box, other) > _SAME for other in tried):
                continue
            try:
                return self._segment_one(keys, evidence, frames, phrase, one)
            except Reject as reject:
                first = first or Reject(reject.reason, f"{phrase or one.name}: {reject.detail}", reject.facts)
                if reject.reason not in _UNNAMED:  # a generic phrase may take it without its name
                    tried.append(one.box)
            if len(tried) == self.settings.most_tried:
                break
        if box is None:
            try:
                return self._segment_moving(keys, evidence, frames, phrases)
            except Reject as reject:
                first = first or reject
        raise first or Reject("no_target", f"nothing in the first frame could be {' or '.join(phrases) or 'edited'}")

    def _segment_one(
        self, keys: KeyFrames, evidence: ClipEvidence, frames: Frames, phrase: str, one: Candidate
    ) -> Segmentation:
        """Outline a candidate in every frame; phrase "" gives it the name of which the detector is sure, or `object`.

        Raises:
            Reject: a limit is broken.
        """
        x0, y0, x1, y1 = (v * keys.scale for v in one.box)
        limits = self.settings
        check_gates(
            first_outline_facts(evidence.clip[0], keys, (x0, y0, x1, y1)),
            [
                ("outline_unsure", "unsure", "at most", limits.max_unsure),
                ("takes_ground", "contour_contrast", "at least", _HOPELESS * limits.min_contour_contrast),
            ],
        )
        outlines = keys.follow(evidence.flows, (x0, y0, x1, y1), one.label)
        facts = found_facts(outlines, named=bool(one.label))
        if not phrase:
            often = facts.get("redetected", 0.0) >= limits.min_redetected
            phrase = spoken(one.label, facts.get("name_score", 0.0) if often else 0.0)
        elif labels_of(phrase):
            check_gates(
                facts,
                [
                    ("not_redetected", "redetected", "at least", limits.min_redetected),
                    ("name_unsure", "name_score", "at least", limits.min_name_score),
                ],
            )
        check_gates(
            facts,
            [
                ("outline_unsure", "unsure", "at most", limits.max_unsure),
                ("coverage", "outlined", "at least", limits.min_coverage),
            ],
        )
        found = object_masks(evidence, outlines)
        facts |= mask_facts(found.masks) | {"travel": found.travel}
        check_mask_facts(facts, limits)
        facts |= outline_facts(evidence, found.masks, outlines, keys)
        check_gates(
            facts,
            [
                ("outline_disagrees", "outline_agreement", "at least", limits.min_outline_agreement),
                ("outline_disagrees", "box_fit", "at least", limits.min_box_fit),
                ("object_half_lost", "least_agreement", "at least", limits.min_least_agreement),
                ("object_half_lost", "least_share", "at least", limits.min_least_share),
                ("takes_another", "thick_change", "at most", limits.max_thick_change),
                ("outline_flickers", "flow_iou", "at least", limits.min_flow_iou),
                ("outline_flickers", "thick_flicker", "at most", limits.max_thick_flicker),
                ("takes_ground", "contour_contrast", "at least", limits.min_contour_contrast),
                ("outline_has_holes", "holes", "at most", limits.max_holes),
            ],
        )
        score = facts["outline_agreement"] * facts["coverage"] * min(1.0, facts["flow_iou"] + 0.1)
        return Segmentation(enlarge(found.masks, frames.shape[1:3]), phrase, float(np.clip(score, 0, 1)), facts)

    def _segment_moving(
        self, keys: KeyFrames, evidence: ClipEvidence, frames: Frames, phrases: Sequence[str]
    ) -> Segmentation:
        """Outline by its motion what the networks could not outline; the detector must agree with name and place.

        Raises:
            Reject: as `MotionSegmenter`; `no_target` where it is not in the first frame, `not_redetected` or
                `outline_disagrees` where the detector does not agree, and a limit on its shape.
        """
        masks, facts = self._motion.find(evidence)
        if not masks[0].any():
            raise Reject("no_target", "what moves is not in the first frame", facts)
        facts |= shape_facts(evidence, masks, keys)
        limits = self.settings
        check_gates(
            facts,
            [
                ("object_half_lost", "least_share", "at least", limits.min_least_share),
                ("outline_flickers", "flow_iou", "at least", limits.min_flow_iou),
                ("outline_flickers", "thick_flicker", "at most", limits.max_thick_flicker),
                ("takes_ground", "contour_contrast", "at least", limits.min_contour_contrast),
                ("takes_another", "whole", "at least", limits.min_whole),
            ],
        )
        label, agreement = agreed_name(masks, keys)
        facts |= agreement
        said = spoken(label, agreement["name_score"])
        for phrase in phrases:
            labels = labels_of(phrase)
            if label in labels or (label and phrase.lower() in GENERIC):
                check_gates(
                    facts,
                    [
                        ("not_redetected", "redetected", "at least", limits.min_redetected),
                        ("outline_disagrees", "box_fit", "at least", limits.min_box_fit),
                    ],
                )
            elif labels or facts["redetected"] >= limits.min_redetected:
                continue
            name = said if phrase.lower() in GENERIC else phrase
            score = facts["temporal_iou"] * facts["coverage"] * facts["motion_coherence"]
            return Segmentation(enlarge(masks, frames.shape[1:3]), name, float(np.clip(score, 0, 1)), facts)
        raise Reject("no_target", f"what moves is no {' or '.join(phrases)}", facts)

    def _candidates(
        self, keys: KeyFrames, evidence: ClipEvidence, frames: Frames, phrases: Sequence[str], box: Box | None
    ) -> Iterator[tuple[str, Candidate]]:
        """Yield what could be meant, best first, with the phrase for it; "" where the detector is to name it."""
        size = frames.shape[1], frames.shape[2]
        found = [d for d in keys.detections(0) if d.score >= MIN_SCORE]
        if box is not None:
            place = clip_box(box, size)
            label = next((d.label for d in found if overlap(d.box, place) > _SAME), "")
            yield phrases[0] if phrases else "", Candidate(label, place, 1.0)
            return
        (saliency,) = self._salient.maps([frames[0]])
        named = named_candidates(found, saliency, size)
        sure = {d.box for d in found if d.score >= _SURE}
        taken = sure_boxes(found)
        salient = salient_candidates(saliency, taken, size)
        for phrase in phrases:
            if labels := labels_of(phrase):
                yield from ((phrase, one) for one in named if one.label in labels)
                continue
            if phrase.lower() in GENERIC:
                yield from (("", one) for one in named if one.box in sure)
                yield from (("", one) for one in salient if one.score >= _STANDS_OUT)
                yield from (("", one) for one in self._moving(keys, evidence, named))
                yield from (("", one) for one in (*named, *salient))
                continue
            for one in self._moving(keys, evidence, named):
                if not any(overlap(one.box, other) > _SAME for other in taken):
                    yield phrase, one
            yield from ((phrase, one) for one in salient)

    @staticmethod
    def _moving(keys: KeyFrames, evidence: ClipEvidence, named: Sequence[Candidate]) -> Iterator[Candidate]:
        """Yield what moves most against the camera, if it is seen at the start; with a name where it has one."""
        differs = moving_difference(evidence).components()
        members = best_members(evidence, differs, int(0.5 * MIN_AREA * differs[0].size))
        start = min(members, default=_EARLY)
        if start < _EARLY:
            x0, y0, x1, y1 = (v / keys.scale for v in masklib.bounding_boxes(members[start][None])[0].tolist())
            same = next((one for one in named if overlap(one.box, (x0, y0, x1, y1)) > _SAME), None)
            if (
                MIN_AREA
                <= area((x0, y0, x1, y1)) / area((0, 0, keys.size[1] / keys.scale, keys.size[0] / keys.scale))
                <= MAX_AREA
            ):
                yield same or Candidate("", (x0, y0, x1, y1), 1.0)
