"""Segmentation without a network: the object that moves relative to the camera, or the one in a user's box.

It does not understand phrases: it returns the first one unchecked. Its typical failures (water, blurred foregrounds,
parallax, two objects at once) are rejected by limits on measured facts: a few good masks are worth more than many bad
ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from ffpdata.core.errors import Reject
from ffpdata.media import flow
from ffpdata.models.classical.segmenter.mask_measures import mask_measures
from ffpdata.models.classical.segmenter.mask_propagation import propagate_masks, segment_box
from ffpdata.models.classical.segmenter.object_tracks import best_track
from ffpdata.models.classical.segmenter.pixel_evidence import ClipEvidence, PlateDifference, enlarge, moving_difference
from ffpdata.models.mask_guards import Gate, check_gates
from ffpdata.models.protocols import Box, Segmentation
from ffpdata.models.settings import BackendSettings, parse_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ffpdata.core.stage import ModelSpec
    from ffpdata.models.protocols import Frames, Masks


class MotionSegmenterSettings(BackendSettings):
    """Settings of `MotionSegmenter`: its limits. Areas are fractions of the frame."""

    min_motion_px: float = Field(0.8, gt=0)
    """Slowest motion relative to the camera that counts, in pixels of a 640-wide picture per two frames."""
    min_area: float = Field(0.002, ge=0, le=1)
    """Mean area of the mask below which `mask_too_small` is rejected."""
    max_area: float = Field(0.4, ge=0, le=1)
    """Mean area of the mask above which `mask_too_large` is rejected."""
    min_coverage: float = Field(0.6, ge=0, le=1)
    """Smallest fraction of frames that show the object (`coverage`)."""
    min_temporal_iou: float = Field(0.75, ge=0, le=1)
    """Smallest mean overlap of a mask with its successor warped back by flow (`temporal_iou`)."""
    min_motion_coherence: float = Field(0.4, ge=0, le=1)
    """Smallest share of all motion relative to the camera that is on the object (`motion_coherence`)."""
    min_travel: float = Field(1.2, ge=0)
    """Shortest distance, in the object's own sizes, that it moves relative to the background (`stays_in_place`). With
    less, parts of the object remain in the clean plate, and its mask has holes there."""
    min_distinctness: float = Field(1.6, ge=0)
    """Smallest product of `motion_coherence` and `travel` (`not_distinct`): among other motion, an object must move far
    to be distinct. This limit separates right from wrong masks on 20 real and 6 synthetic clips."""
    min_isolation: float = Field(0.9, ge=0, le=1)
    """Smallest share of the motion around the object that is its own (`not_isolated`): a part of a body has less."""
    max_border: float = Field(0.35, ge=0, le=1)
    """Largest share of the frame's border that the mask may cover (`mask_touches_border`)."""
    min_inliers: float = Field(0.2, ge=0, le=1)
    """Smallest mean fraction of points that follow one camera motion (`camera_unstable`)."""


_SMALLEST = 0.001
"""Components of a smaller fraction of the frame are not tracked."""

_POINTS = 250
"""Points for the estimate of the camera; its error is then about a tenth of a pixel, which is enough here."""


class MotionSegmenter:
    """The embedded segmenter.

    Facts of a result: those of `mask_measures`, and `camera_inliers`, the mean fraction of points that follow one
    camera motion.
    """

    name = "motion_segmenter"
    version: int = 1
    Settings = MotionSegmenterSettings

    def __init__(self, spec: ModelSpec) -> None:
        self.settings = parse_settings(self.Settings, spec)

    def close(self) -> None:
        """Do nothing: no process and no memory is held."""

    def segment(self, frames: Frames, phrases: Sequence[str], box: Box | None = None) -> Segmentation:
        """Segment the object that moves relative to the camera, or the one in `box` in the first frame.

        Args:
            frames: uint8 (T, H, W, 3) RGB.
            phrases: the first one is returned as the object's phrase, unchecked.
            box: x0, y0, x1, y1 in pixels of the first frame; limits on motion are then skipped.

        Raises:
            Reject: `no_target`, `camera_unstable`, `mask_too_small`, `mask_too_large`, `coverage`, `temporal_iou`,
                `motion_coherence`, `stays_in_place`, `not_isolated`, `not_distinct` or `mask_touches_border`, with
                value and limit.
        """
        evidence = ClipEvidence.of(frames, flow.camera_path(frames, points=_POINTS), self.settings.min_motion_px)
        if box is None:
            masks, facts = self.find(evidence)
        else:
            masks, difference = segment_box(evidence, box, evidence.clip.shape[2] / frames.shape[2])
            facts = self._measure(evidence, difference, masks, boxed=True)
        phrase = phrases[0] if phrases else "moving object"
        score = facts["temporal_iou"] * facts["coverage"] * (1.0 if box else facts["motion_coherence"])
        return Segmentation(enlarge(masks, frames.shape[1:3]), phrase, float(np.clip(score, 0, 1)), facts)

    def find(self, evidence: ClipEvidence) -> tuple[Masks, dict[str, float]]:
        """Return the masks, bool (T, h, w), of what moves relative to the camera, on the small copy, and their facts.

        Raises:
            Reject: as `segment`.
        """
        inliers = evidence.path.inliers.mean()
        if inliers < self.settings.min_inliers:
            raise Reject("camera_unstable", f"{inliers:.4g}, at least {self.settings.min_inliers:g}")
        masks, difference = self._segment_motion(evidence)
        return masks, self._measure(evidence, difference, masks, boxed=False)

    def _measure(
        self, evidence: ClipEvidence, difference: PlateDifference, masks: Masks, *, boxed: bool
    ) -> dict[str, float]:
        """Measure masks and check the limits."""
        facts = mask_measures(evidence, difference, masks)
        facts["camera_inliers"] = float(evidence.path.inliers.mean())
        self._check_limits(facts, boxed=boxed)
        return facts

    def _segment_motion(self, evidence: ClipEvidence) -> tuple[Masks, PlateDifference]:
        """Find the object by its motion, then by the clean plate; return its masks and the distance from the plate."""
        difference = moving_difference(evidence)
        differs = difference.components()
        floor = max(12, int(min(0.5 * self.settings.min_area, _SMALLEST) * differs[0].size))
        seed = best_track(evidence, differs, floor)
        if seed is None:
            raise Reject("no_target", "nothing moves against the camera for long enough")
        return propagate_masks(evidence, difference, seed, differs), difference

    def _check_limits(self, facts: dict[str, float], *, boxed: bool) -> None:
        limits = self.settings
        gates: list[Gate] = [
            ("mask_too_small", "area", "at least", limits.min_area),
            ("mask_too_large", "area", "at most", limits.max_area),
            ("coverage", "coverage", "at least", limits.min_coverage),
            ("temporal_iou", "temporal_iou", "at least", limits.min_temporal_iou),
            ("mask_touches_border", "border", "at most", limits.max_border),
        ]
        if not boxed:
            gates += [
                ("motion_coherence", "motion_coherence", "at least", limits.min_motion_coherence),
                ("stays_in_place", "travel", "at least", limits.min_travel),
                ("not_isolated", "isolation", "at least", limits.min_isolation),
                ("not_distinct", "distinctness", "at least", limits.min_distinctness),
            ]
        check_gates(facts, gates)
