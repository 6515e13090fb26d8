"""Facts of an object's masks against what the networks and the picture say of it, for the segmenter's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.media import masks as masklib
from ffpdata.models.pretrained.detector import overlap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ffpdata.models.pretrained.key_frames import Outlines
    from ffpdata.models.protocols import Frames, Image, Masks

    Mask = NDArray[np.bool_]

_NEAR = 12
"""Frames on each side with which an area is compared."""
_CONTRAST = 7.0
"""Distance in CIELAB, across a contour, from which a person sees an edge there."""
_BAND = 7
"""Side of the square, in pixels of the small copy, over which colours on each side of a contour are averaged."""


def outline_facts(
    clip: Frames, masks: Masks, outlines: Outlines, scale: float, keys: Sequence[int]
) -> dict[str, float]:
    """Measure masks, bool (T, h, w), on the small copy, uint8 (T, h, w, 3).

    Args:
        clip: the small copy.
        masks: the object in every frame.
        outlines: what the networks say of it.
        scale: width of the small copy over the full width.
        keys: the key frames.

    Returns:
        `outline_agreement`, `least_agreement`: mean and least overlap of the mask with the network's own outline of a
        key frame. `least_share`: smallest area of a frame over the median of the frames around it. `contour_contrast`:
        share of the contour across which colours differ. `holes`: share of holes in its outer outline. `whole`: share
        of it that is one piece. `unsure`: of the network's outlines, area that is neither surely in nor surely out,
        over what is in. And where it has a name: `redetected`, share of the key frames that show it in which the
        detector finds it, and `box_fit`, mean overlap of the detector's box with that of the mask.
    """
    shown = [t for t in keys if masks[t].any()]
    overlaps = [_iou(masks[t], outlines.maps[t] > 0) if t in outlines.maps else 0.0 for t in shown]
    unsure = [_unsure(outlines.maps[t]) for t in shown if t in outlines.maps]
    contrast = [contour_contrast(clip[t], masks[t]) for t in shown]
    shapes = [_shape(masks[t]) for t in shown]
    facts = {
        "outline_agreement": float(np.mean(overlaps or [0.0])),
        "least_agreement": min(overlaps, default=0.0),
        "least_share": least_share(masks),
        "contour_contrast": float(np.mean(contrast or [0.0])),
        "holes": float(np.mean([s[0] for s in shapes] or [0.0])),
        "whole": float(np.mean([s[1] for s in shapes] or [0.0])),
        "unsure": float(np.mean(unsure or [1.0])),
    }
    if outlines.detections:
        again = [t for t in shown if t in outlines.detections]
        boxes = masklib.bounding_boxes(masks)
        fits = [
            overlap(tuple(v * scale for v in outlines.detections[t].box), tuple(map(float, boxes[t]))) for t in again
        ]
        facts |= {"redetected": len(again) / max(1, len(shown)), "box_fit": float(np.mean(fits or [0.0]))}
    return facts


def least_share(masks: Masks) -> float:
    """Return the smallest area of a frame over the median of the frames around it; 1 where it is never smaller.

    Frames in which the object touches the frame's edge do not count: there it enters or leaves.
    """
    areas = masklib.area(masks).astype(np.float64)
    inside = (areas > 0) & ~(_touches_edge(masks))
    least = 1.0
    for t in np.flatnonzero(inside).tolist():
        near = areas[max(0, t - _NEAR) : t + _NEAR + 1]
        least = min(least, float(areas[t] / np.median(near[near > 0])))
    return least


def contour_contrast(image: Image, mask: Mask) -> float:
    """Return the share of a mask's contour across which the colours of an image, uint8 (h, w, 3), differ visibly.

    Parts of the contour on the frame's edge do not count. 1.0 where nothing is left.
    """
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    inside = mask.astype(np.float32)
    size = (_BAND, _BAND)
    weight_in, weight_out = cv2.blur(inside, size), cv2.blur(1 - inside, size)
    inner = cv2.blur(lab * inside[..., None], size) / np.maximum(weight_in, 1e-6)[..., None]
    outer = cv2.blur(lab * (1 - inside)[..., None], size) / np.maximum(weight_out, 1e-6)[..., None]
    contour = mask & (cv2.erode(mask.view(np.uint8), np.ones((3, 3), np.uint8)) == 0)
    contour[[0, 1, -2, -1]] = False
    contour[:, [0, 1, -2, -1]] = False
    if not contour.any():
        return 1.0
    return float((np.linalg.norm(inner - outer, axis=2)[contour] > _CONTRAST).mean())


def _touches_edge(masks: Masks) -> NDArray[np.bool_]:
    rows = masks[:, [0, -1]].any(axis=(1, 2))
    columns = masks[:, :, [0, -1]].any(axis=(1, 2))
    return rows | columns


def _shape(mask: Mask) -> tuple[float, float]:
    """Return the share of holes within the outer outline, and of the largest piece."""
    contours, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros(mask.shape, np.uint8), contours, -1, 1, cv2.FILLED)
    area = cv2.countNonZero(mask.view(np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8))
    return 1 - area / cv2.countNonZero(filled), float(stats[1:, cv2.CC_STAT_AREA].max() / area)


def _unsure(plane: NDArray[np.float32]) -> float:
    return float((np.abs(plane) < 0.7).sum() / max(1, (plane > 0).sum()))


def _iou(a: Mask, b: Mask) -> float:
    return float(masklib.iou(a[None], b[None])[0])
