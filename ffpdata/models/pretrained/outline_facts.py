"""Facts of an object's masks against what the networks and the picture say of it, for the segmenter's limits."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.media import masks as masklib
from ffpdata.models.pretrained.candidates import kinds
from ffpdata.models.pretrained.detector import overlap
from ffpdata.models.pretrained.key_frames import unsure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.classical.segmenter.pixel_evidence import ClipEvidence, Flows
    from ffpdata.models.pretrained.key_frames import KeyFrames, Outlines
    from ffpdata.models.protocols import Box, Image, Masks

    Mask = NDArray[np.bool_]

_NEAR = 12
"""Frames on each side with which an area is compared."""
_CONTRAST = 7.0
"""Distance in CIELAB, across a contour, from which a person sees an edge there."""
_THICK = 0.16
"""Width from which a part is no limb, of the square root of the object's area."""
_PATCH = 0.12
"""The same, of the square root of the area, for what comes or goes within one frame."""
_THERE = 0.3
"""Overlap from which a detection says what a mask shows."""
_BAND = 7
"""Side of the square, in pixels of the small copy, over which colours on each side of a contour are averaged."""


def outline_facts(evidence: ClipEvidence, masks: Masks, outlines: Outlines, keys: KeyFrames) -> dict[str, float]:
    """Measure masks, bool (T, h, w), of the small copy.

    Args:
        evidence: the clip and its measures.
        masks: the object in every frame.
        outlines: what the networks say of it.
        keys: the key frames.

    Returns:
        `outline_agreement`, `least_agreement`: mean and least overlap of the mask with the network's own outline of a
        key frame. `least_share`: smallest area of a frame over the median of the frames around it. `contour_contrast`:
        share of the contour across which colours differ. `holes`: share of holes in its outer outline. `whole`: share
        of it that is one piece. `flow_iou`: mean overlap of a mask with its successor warped back by flow.
        `thick_change`: largest area of thick parts that it gains or loses from key frame to key frame, over its own,
        carried there by flow or moved, whichever fits better. `thick_flicker`: the same from frame to frame, the mean.
        Where it has a name, `box_fit`: mean overlap of the detector's box with that of the mask.
    """
    shown = [t for t in sorted({*keys.indices, *outlines.maps}) if masks[t].any()]
    judged = [t for t in shown if t not in outlines.missed]
    overlaps = [_iou(masks[t], outlines.maps[t] > 0) if t in outlines.maps else 0.0 for t in judged]
    contrast = [contour_contrast(evidence.clip[t], masks[t]) for t in shown]
    shapes = [_shape(masks[t]) for t in shown]
    changes = [
        min(
            thick_change(before, masks[b]) for before in (_carried(evidence.flows, masks[a], a, b), _moved(masks, a, b))
        )
        for a, b in pairwise(shown)
    ]
    boxes = masklib.bounding_boxes(masks)
    fits = [overlap(_scaled(d.box, keys.scale), _as_box(boxes[t])) for t, d in outlines.detections.items()]
    facts = {
        "outline_agreement": float(np.mean(overlaps or [0.0])),
        "least_agreement": min(overlaps, default=0.0),
        "least_share": least_share(masks),
        "contour_contrast": float(np.mean(contrast or [0.0])),
        "holes": float(np.mean([s[0] for s in shapes] or [0.0])),
        "whole": float(np.mean([s[1] for s in shapes] or [0.0])),
        "flow_iou": flow_iou(evidence.flows, masks),
        "thick_change": max(changes, default=0.0),
        "thick_flicker": thick_flicker(evidence.flows, masks),
    }
    return facts | {"box_fit": float(np.mean(fits))} if fits else facts


def shape_facts(evidence: ClipEvidence, masks: Masks, keys: KeyFrames) -> dict[str, float]:
    """Measure masks, bool (T, h, w), of the small copy that no network outlined.

    Returns:
        `least_share`, `contour_contrast`, `whole`, `flow_iou` and `thick_flicker`, as `outline_facts`.
    """
    shown = [t for t in keys.indices if masks[t].any()]
    contrast = [contour_contrast(evidence.clip[t], masks[t]) for t in shown]
    return {
        "least_share": least_share(masks),
        "contour_contrast": float(np.mean(contrast or [0.0])),
        "whole": float(np.mean([_shape(masks[t])[1] for t in shown] or [0.0])),
        "flow_iou": flow_iou(evidence.flows, masks),
        "thick_flicker": thick_flicker(evidence.flows, masks),
    }


def first_outline_facts(frame: Image, keys: KeyFrames, box: Box) -> dict[str, float]:
    """Measure the network's outline in the first frame, uint8 (h, w, 3), of what is in a box of the small copy.

    Returns:
        `unsure` and `contour_contrast`, as of `found_facts` and `outline_facts`.
    """
    plane = keys.outline(0, box)
    mask = plane > 0
    return {"unsure": unsure(plane), "contour_contrast": contour_contrast(frame, mask) if mask.any() else 0.0}


def found_facts(outlines: Outlines, *, named: bool) -> dict[str, float]:
    """Measure how surely an object was found, before its masks are made.

    Returns:
        `unsure`: of the network's outlines, area that is neither surely in nor surely out, over what is in: the median
        of the key frames. `outlined`: share of them with an outline, of all in which it is followed. Where it has a
        name: `redetected`, share of the outlined key frames in which the detector finds it, and `name_score`, the mean
        score there.
    """
    planes = list(outlines.maps.values())
    facts = {
        "unsure": float(np.median([unsure(plane) for plane in planes])),
        "outlined": sum(bool((plane > 0).any()) for plane in planes) / (len(planes) + len(outlines.missed)),
    }
    if named:
        scores = [d.score for d in outlines.detections.values()]
        facts |= {"redetected": len(scores) / len(outlines.maps), "name_score": float(np.mean(scores or [0.0]))}
    return facts


def agreed_name(masks: Masks, keys: KeyFrames) -> tuple[str, dict[str, float]]:
    """Return the label under which the detector finds what masks show, and how well it agrees.

    Returns:
        The label that it gives most often, "" where it finds nothing there; and `redetected`, the share of the key
        frames that show it in which it is found under that label or one like it, `box_fit`, the mean overlap of the
        boxes there, and `name_score`, the mean score of the label.
    """
    shown = [t for t in keys.indices if masks[t].any()]
    boxes = masklib.bounding_boxes(masks)
    fits: dict[str, list[float]] = {}
    scores: dict[str, list[float]] = {}
    for t in shown:
        own = _as_box(boxes[t])
        best = max(keys.detections(t), key=lambda d: overlap(_scaled(d.box, keys.scale), own), default=None)
        if best and (fit := overlap(_scaled(best.box, keys.scale), own)) > _THERE:
            fits.setdefault(best.label, []).append(fit)
            scores.setdefault(best.label, []).append(best.score)
    label = max(sorted(fits), key=lambda name: len(fits[name]), default="")
    found = [fit for name in fits if label and name in kinds(label) for fit in fits[name]]
    return label, {
        "redetected": len(found) / max(1, len(shown)),
        "box_fit": float(np.mean(found or [0.0])),
        "name_score": float(np.mean(scores.get(label, [0.0]))),
    }


def thick_flicker(flows: Flows, masks: Masks) -> float:
    """Return the mean of `thick_change` from each frame, carried on by flow or moved, to the next.

    It is 0 where no frame that shows the object has a successor that does.
    """
    changes = []
    for t in range(len(masks) - 1):
        if masks[t].any() and masks[t + 1].any():
            guesses = (_carried(flows, masks[t], t, t + 1), _moved(masks, t, t + 1))
            changes.append(min(_thick_in_crop(guess, masks[t + 1]) for guess in guesses))
    return float(np.mean(changes or [0.0]))


def _thick_in_crop(before: Mask, after: Mask) -> float:
    """Return `thick_change` of patches, on the crop that holds both; 1 where the first is empty."""
    if not before.any():
        return 1.0
    x, y, w, h = cv2.boundingRect((before | after).view(np.uint8))
    crop = np.s_[y : y + h, x : x + w]
    return thick_change(before[crop], after[crop], _PATCH)


def thick_change(before: Mask, after: Mask, width: float = _THICK) -> float:
    """Return the area of thick parts that are in one mask alone, over the area of the first.

    Args:
        before: bool (h, w), not empty.
        after: bool (h, w).
        width: of the thinnest such part, of the square root of the area.
    """
    size = float(before.sum())
    side = max(5, int(width * np.sqrt(size)))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    thick = cv2.morphologyEx((before ^ after).astype(np.uint8), cv2.MORPH_OPEN, disc)
    return cv2.countNonZero(thick) / max(1.0, size)


def _carried(flows: Flows, mask: Mask, source: int, target: int) -> Mask:
    for t in range(source, target):
        mask = flows.warp_mask(mask, t, t + 1)
    return mask


def _moved(masks: Masks, source: int, target: int) -> Mask:
    """Return the mask of frame `source` moved to where that of frame `target` is."""
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = masklib.bounding_boxes(masks[[source, target]]).tolist()
    place = np.array([[1, 0, (bx0 + bx1 - ax0 - ax1) / 2], [0, 1, (by0 + by1 - ay0 - ay1) / 2]])
    size = masks.shape[2], masks.shape[1]
    return cv2.warpAffine(masks[source].view(np.uint8), place, size, flags=cv2.INTER_NEAREST) > 0


def flow_iou(flows: Flows, masks: Masks) -> float:
    """Return the mean overlap of a mask with its successor warped back by flow; 1 where none has a successor."""
    shown = [t for t in range(len(masks) - 1) if masks[t].any() and masks[t + 1].any()]
    return float(np.mean([_iou(masks[t], flows.warp_mask(masks[t + 1], t + 1, t)) for t in shown] or [1.0]))


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


def _scaled(box: Box, scale: float) -> Box:
    return box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale


def _as_box(corners: NDArray[np.int64]) -> Box:
    x0, y0, x1, y1 = (float(v) for v in corners)
    return x0, y0, x1, y1


def _iou(a: Mask, b: Mask) -> float:
    return float(masklib.iou(a[None], b[None])[0])
