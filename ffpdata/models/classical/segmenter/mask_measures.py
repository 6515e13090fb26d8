"""Measures of masks, for the segmenter's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.media import masks as masklib
from ffpdata.models.classical.segmenter.object_tracks import travel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.classical.segmenter.pixel_evidence import ClipEvidence, PlateDifference
    from ffpdata.models.protocols import Masks

    Mask = NDArray[np.bool_]
    Plane = NDArray[np.float32]

_VISIBLE_AREA = 0.0005
"""Fraction of a frame from which a mask counts as showing the object."""


def mask_measures(evidence: ClipEvidence, difference: PlateDifference, masks: Masks) -> dict[str, float]:
    """Measure masks, bool (T, h, w), of the small copy.

    Returns:
        `area`: mean fraction of the frame, over frames that show the object. `coverage`: fraction of frames that show
        it. `temporal_iou`: mean overlap of a mask with its successor, warped back by flow or centred, whichever fits
        better. `motion_coherence`: share of all motion relative to the camera that is on the object. `travel`: distance
        that it moves, in its own sizes. `distinctness`: product of these two. `isolation`: share of the motion around
        the object that is its own. `shape_stability`: median overlap of its shape with that of six frames later.
        `area_jump`: mean relative change of its area from frame to frame. `border`: largest share of the frame's border
        under the mask.
    """
    strong = _strong_motion(evidence, difference)
    flows, path = evidence.flows, evidence.path
    size = masks[0].size
    areas = masklib.area(masks)
    visible = areas > _VISIBLE_AREA * size
    ious = []
    shapes = {t: _centred(masks[t]) for t in np.flatnonzero(visible).tolist()}
    for t, shape in shapes.items():
        if t + 1 in shapes:
            warped = _overlap(masks[t], flows.warp_mask(masks[t + 1], t + 1, t))
            ious.append(max(warped, _overlap(shape, shapes[t + 1])))
    on_object = float(strong[masklib.dilate(masks, max(2, masks.shape[2] // 100))].sum())
    coherence = on_object / max(1e-6, float(strong[visible].sum()))
    far = travel({t: masks[t] for t in np.flatnonzero(visible).tolist()}, path)
    edge = np.concatenate([masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]], axis=1)
    return {
        "area": float(areas[visible].mean() / size) if visible.any() else 0.0,
        "coverage": float(visible.mean()),
        "temporal_iou": float(np.mean(ious)) if ious else 0.0,
        "motion_coherence": coherence,
        "travel": far,
        "distinctness": coherence * far,
        "isolation": _isolation(masks, strong),
        "shape_stability": _shape_stability(shapes),
        "area_jump": float(np.mean(np.abs(np.diff(np.log(areas[visible]))))) if visible.sum() > 1 else 1.0,
        "border": float(edge.mean(axis=1).max()),
    }


def _isolation(masks: Masks, strong: Plane) -> float:
    """Return the object's share of the motion around it: low where it is a part of a larger moving object."""
    near, far = masks.shape[2] // 100 + 1, masks.shape[2] // 14
    own = around = 0.0
    for mask, speed in zip(masks, strong, strict=True):
        if mask.any():
            distance = cv2.distanceTransform(1 - mask.view(np.uint8), cv2.DIST_L2, 3)
            own += float(speed[distance <= near].sum())
            around += float(speed[distance <= far].sum())
    return own / max(1e-6, around)


def _overlap(a: Mask, b: Mask) -> float:
    return float(masklib.iou(a[None], b[None])[0])


def _centred(mask: Mask, side: int = 96) -> Mask:
    """Return a mask centred and scaled to a standard area in a square: bool (side, side)."""
    moments = cv2.moments(mask.view(np.uint8), binaryImage=True)
    zoom = side / 3 / np.sqrt(moments["m00"])
    x, y = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    place = np.array([[zoom, 0, side / 2 - zoom * x], [0, zoom, side / 2 - zoom * y]])
    return cv2.warpAffine(mask.view(np.uint8) * np.uint8(255), place, (side, side)) > 127


def _shape_stability(shapes: dict[int, Mask], gap: int = 6) -> float:
    """Return the median overlap of centred masks `gap` frames apart."""
    values = [_overlap(shape, shapes[t + gap]) for t, shape in shapes.items() if t + gap in shapes]
    return float(np.median(values)) if values else 0.0


def _strong_motion(evidence: ClipEvidence, difference: PlateDifference) -> Plane:
    """Return motion relative to the camera, without grain on even surfaces: float32 (T, h, w), at most 12."""
    motion, level = evidence.motion, evidence.level
    real = (motion > level) & ((difference.levels > 5) | ~difference.known)
    return np.where(real, np.minimum(motion, 12), 0).astype(np.float32)
