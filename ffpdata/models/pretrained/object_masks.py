"""Masks of one object over a clip: outlined in key frames, tied over time, fitted to every frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.media import masks as masklib
from ffpdata.models.classical.segmenter.mask_propagation import PixelLabeller, around, fill_small_holes
from ffpdata.models.classical.segmenter.object_tracks import travel
from ffpdata.models.classical.segmenter.pixel_evidence import Colours, PlateDifference, plate_difference
from ffpdata.models.pretrained.key_frames import tie

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.classical.segmenter.pixel_evidence import ClipEvidence
    from ffpdata.models.pretrained.key_frames import Outlines
    from ffpdata.models.protocols import Frames, Masks

    Mask = NDArray[np.bool_]
    Plane = NDArray[np.float32]

TRAVELS = 1.2
"""Distance, in its own sizes, from which a moving object reveals its background."""
_REACH = 6
"""Pixels of the small copy by which colours and edges may move an outline."""
_FAR = 14
"""The same where the background is known from other times: a limb in fast motion is seen against it."""
_SAME_LEVEL = 10
"""Levels from the background below which a pixel may be background, whatever the networks say, if its colour is."""
_SURE = 2.0
"""What the networks' outline says of pixels farther inside than its reach."""


@dataclass
class ObjectMasks:
    """One object.

    Attributes:
        masks: bool (T, h, w), on the small copy.
        travel: distance that it moves against the camera, in its own sizes.
    """

    masks: Masks
    travel: float


def object_masks(evidence: ClipEvidence, outlines: Outlines) -> ObjectMasks:
    """Make the masks of all frames from the outlines of key frames.

    Args:
        evidence: the clip and its measures.
        outlines: what the networks say of the object.
    """
    rough = tie(outlines, evidence.flows, len(evidence.clip))
    seen = rough > 0
    far = travel({t: mask for t, mask in enumerate(seen) if mask.any()}, evidence.path)
    difference = plate_difference(evidence.clip, masklib.dilate(seen, max(3, seen.shape[2] // 60)), evidence.path)
    labeller = PixelLabeller(evidence.clip, evidence.flows, difference, None, _colours(evidence.clip, outlines), 0.0)
    masks = np.stack([_fit(labeller, t, plane, difference, far) for t, plane in enumerate(rough)])
    return ObjectMasks(masks, far)


def _colours(clip: Frames, outlines: Outlines) -> Colours:
    """Count colours well inside the outlines of the key frames, and around them."""
    inside = np.zeros(clip.shape[:3], np.bool_)
    outside = np.zeros_like(inside)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    for t, plane in outlines.maps.items():
        mask = (plane > 0).astype(np.uint8)
        inside[t] = cv2.erode(mask, disc) > 0
        outside[t] = (cv2.dilate(mask, np.ones((61, 61), np.uint8)) > 0) & (cv2.dilate(mask, disc) == 0)
    return Colours.learn(clip, inside, outside, list(outlines.maps))


def _fit(labeller: PixelLabeller, t: int, rough: Plane, difference: PlateDifference, far: float) -> Mask:
    """Fit a rough outline, above 0 on the object, to frame `t`."""
    mask = rough > 0
    if not mask.any():
        return mask
    crop = around(mask, 2 * _FAR)
    part = rough[crop]
    distance = cv2.distanceTransform((part <= 0).astype(np.uint8), cv2.DIST_L2, 3)
    within = cv2.distanceTransform((part > 0).astype(np.uint8), cv2.DIST_L2, 3) > _REACH
    shape = np.clip(2 * part, -3, 3).astype(np.float32)
    shape[within] = np.maximum(shape[within], _SURE)
    known, levels = difference.known[t][crop], difference.levels[t][crop]
    likely = labeller.colours.log_ratio(np.ascontiguousarray(labeller.clip[t][crop]))
    behind = known & (levels < _SAME_LEVEL) & (likely < 0)
    shape[behind] = np.minimum(shape[behind], 0)
    shape[distance > (np.where(known, _FAR, _REACH) if far >= TRAVELS else _REACH)] = -np.inf
    return fill_small_holes(labeller.fit_shape(t, crop, shape))
