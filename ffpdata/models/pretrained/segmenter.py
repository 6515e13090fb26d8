"""Segmentation of what a detector names or a saliency network sees, standing still or moving.

What to edit is chosen in the first frame, outlined by the saliency network in key frames, at full size around the
object, tied over time along the flow, and fitted in every frame to colours, edges and the background that is seen there
at other times. What goes wrong with that (an outline that flickers, an object half lost, ground taken with it, another
object) is measured and rejected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from pydantic import Field

from ffpdata.core.errors import Reject
from ffpdata.media import flow
from ffpdata.media import masks as masklib
from ffpdata.models.classical.segmenter.mask_measures import mask_measures
from ffpdata.models.classical.segmenter.mask_propagation import PixelLabeller, around, fill_small_holes
from ffpdata.models.classical.segmenter.object_tracks import travel
from ffpdata.models.classical.segmenter.pixel_evidence import (
    ClipEvidence,
    Colours,
    PlateDifference,
    enlarge,
    plate_difference,
)
from ffpdata.models.packaged.litert_session import interpreter
from ffpdata.models.packaged.onnx_session import session
from ffpdata.models.pretrained.candidates import (
    Candidate,
    named_candidates,
    salient_candidates,
    sure_boxes,
)
from ffpdata.models.pretrained.detector import MIN_SCORE, ObjectDetector
from ffpdata.models.pretrained.key_frames import KeyFrames, Outlines, tie
from ffpdata.models.pretrained.outline_facts import outline_facts
from ffpdata.models.pretrained.salient import SalientObjects
from ffpdata.models.protocols import Box, Segmentation
from ffpdata.models.settings import BackendSettings, parse_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames, Masks

    Plane = NDArray[np.float32]


class DetectionSegmenterSettings(BackendSettings):
    """Settings of `DetectionSegmenter`: its limits. Areas are fractions of the frame."""

    most_tried: int = Field(3, ge=1)
    """How many things in the first frame are tried, until one is outlined within the limits."""


_SLOWEST = 0.8
"""Slowest motion relative to the camera that counts, pixels of the small copy per two frames."""
_POINTS = 250
_TRAVELS = 1.2
"""Distance, in its own sizes, from which a moving object reveals its background."""
_REACH = 6
"""Pixels of the small copy by which colours and edges may move an outline."""


class DetectionSegmenter:
    """The segmenter on pretrained networks that come inside packages."""

    name = "detection_segmenter"
    version: int = 1
    Settings = DetectionSegmenterSettings

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)
        self._detector = ObjectDetector(interpreter("objectron_ssd"))
        self._salient = SalientObjects(session("u2netp"))

    def close(self) -> None:
        """Free the networks."""
        del self._detector, self._salient

    def segment(self, frames: Frames, phrases: Sequence[str], box: Box | None = None) -> Segmentation:
        path = flow.camera_path(frames, points=_POINTS)
        evidence = ClipEvidence.of(frames, path, _SLOWEST)
        keys = KeyFrames(frames, evidence.clip.shape[1:3], self._detector, self._salient)
        found = keys.detections(0)
        (saliency,) = self._salient.maps([frames[0]])
        size = frames.shape[1:3]
        candidates = named_candidates([d for d in found if d.score >= MIN_SCORE], saliency, size)
        candidates += salient_candidates(saliency, sure_boxes(found), size)
        if not candidates:
            raise Reject("no_target", "")
        one = candidates[0]
        masks, facts = self._outline(keys, evidence, one)
        return Segmentation(enlarge(masks, size), one.name, 1.0, facts)

    def _outline(self, keys: KeyFrames, evidence: ClipEvidence, one: Candidate) -> tuple[Masks, dict[str, float]]:
        outlines = keys.follow(evidence.flows, tuple(v * keys.scale for v in one.box), one.label)
        rough = tie(outlines, evidence.flows, len(evidence.clip))
        masks = rough > 0
        difference = plate_difference(evidence.clip, masklib.dilate(masks, max(3, masks.shape[2] // 60)), evidence.path)
        moves = travel({t: m for t, m in enumerate(masks) if m.any()}, evidence.path) >= _TRAVELS
        colours = self._colours(evidence.clip, outlines)
        known = difference if moves else PlateDifference.unknown(masks.shape)
        labeller = PixelLabeller(evidence.clip, evidence.flows, known, None, colours, 0.0)
        fitted = np.stack([_fit(labeller, t, plane) for t, plane in enumerate(rough)])
        facts = outline_facts(evidence.clip, fitted, outlines, keys.scale, keys.indices)
        facts |= mask_measures(evidence, difference, fitted)
        return fitted, facts

    @staticmethod
    def _colours(clip: Frames, outlines: Outlines) -> Colours:
        inside = np.zeros(clip.shape[:3], np.bool_)
        outside = np.zeros_like(inside)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
        for t, plane in outlines.maps.items():
            mask = (plane > 0).astype(np.uint8)
            inside[t] = cv2.erode(mask, disc) > 0
            near = cv2.dilate(mask, np.ones((61, 61), np.uint8)) > 0
            outside[t] = near & (cv2.dilate(mask, disc) == 0)
        return Colours.learn(clip, inside, outside, list(outlines.maps))


def _fit(labeller: PixelLabeller, t: int, rough: Plane) -> NDArray[np.bool_]:
    """Fit the rough outline, above 0 on the object, to frame `t`."""
    mask = rough > 0
    if not mask.any():
        return mask
    crop = around(mask, 4 * _REACH)
    part = rough[crop]
    beyond = cv2.distanceTransform((part <= 0).astype(np.uint8), cv2.DIST_L2, 3) > _REACH
    within = cv2.distanceTransform((part > 0).astype(np.uint8), cv2.DIST_L2, 3) > _REACH
    shape = np.clip(2 * part, -3, 3).astype(np.float32)
    shape[within] = np.maximum(shape[within], 2)
    shape[beyond] = -np.inf
    return fill_small_holes(labeller.fit_shape(t, crop, shape))
