"""Guards on the masks of video segmenters: facts measured on them, limits, and the reasons of a rejection.

Video segmenters lose their target in known ways: they return empty masks, another object, the whole picture, or all but
the object (facebookresearch/sam2 issues 242, 379 and 446). The embedded segmenter uses the same reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from pydantic import Field

from ffpdata.core.errors import Reject
from ffpdata.media import masks as masklib
from ffpdata.models.protocols import Box, Segmentation
from ffpdata.models.settings import BackendSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.protocols import Masks

    Mask = NDArray[np.bool_]

Gate = tuple[str, str, Literal["at least", "at most"], float]
"""Reason of a rejection, name of a fact, and the limit of that fact."""

_LONG_SIDE = 640
"""Long side, in pixels, of the grid on which masks are measured: areas and overlaps do not need more."""

_MIN_VISIBLE = 0.1
"""Area jumps count only between frames above this share of the median area: objects enter and leave the frame fast."""


class GuardSettings(BackendSettings):
    """Limits of the facts. Areas are fractions of the frame."""

    min_area: float = Field(0.002, ge=0, le=1)
    """Mean area below which `mask_too_small` is rejected."""
    max_area: float = Field(0.5, ge=0, le=1)
    """Mean area above which `mask_too_large` is rejected."""
    max_frame_area: float = Field(0.85, ge=0, le=1)
    """Area in any one frame above which `whole_image` is rejected."""
    max_complement: float = Field(0.5, ge=0, le=1)
    """Largest overlap of a mask with the complement of the one before it (`complement_mask`)."""
    min_inside_box: float = Field(0.5, ge=0, le=1)
    """Smallest share of the first mask that lies in its prompt boxes (`mask_outside_box`)."""
    min_coverage: float = Field(0.6, ge=0, le=1)
    """Smallest fraction of frames that show the object (`coverage`)."""
    max_area_jump: float = Field(3.0, ge=1)
    """Largest factor by which the area grows or shrinks from one frame to the next (`area_jump`)."""
    min_temporal_iou: float = Field(0.6, ge=0, le=1)
    """Smallest mean overlap of a mask with its successor, in place or centred (`temporal_iou`)."""
    max_border: float = Field(0.5, ge=0, le=1)
    """Largest share of the frame's border that the mask may cover (`mask_touches_border`)."""


def mask_facts(masks: Masks, boxes: Sequence[Box] = ()) -> dict[str, float]:
    """Measure masks, bool (T, H, W).

    Args:
        masks: the object in every frame.
        boxes: prompt boxes in the first frame, in pixels.

    Returns:
        `first_area`: fraction of the first frame. `area`: mean fraction over frames with a mask. `largest_area`:
        in any frame. `coverage`: fraction of frames that show it. `temporal_iou`: mean overlap of a mask with its
        successor, in place or centred, whichever fits better; 1 for a single frame. `largest_area_jump`: largest
        factor between the areas of two frames in a row. `complement`: largest overlap with the complement of the mask
        before. `border`: largest share of the frame's border. `inside_box`, where there are boxes: share of the first
        mask within them.
    """
    step = -(-max(masks.shape[1:]) // _LONG_SIDE)
    small = np.ascontiguousarray(masks[:, ::step, ::step])
    areas = masklib.area(small) / small[0].size
    visible = areas > 0
    both = visible[1:] & visible[:-1]
    overlaps = [_overlap(small[t], small[t + 1]) for t in np.flatnonzero(both).tolist()]
    edge = np.concatenate([small[:, 0], small[:, -1], small[:, :, 0], small[:, :, -1]], axis=1)
    facts = {
        "first_area": float(areas[0]),
        "area": float(areas[visible].mean()) if visible.any() else 0.0,
        "largest_area": float(areas.max()),
        "coverage": float(visible.mean()),
        "temporal_iou": float(np.mean(overlaps)) if overlaps else float(len(masks) == 1),
        "largest_area_jump": _largest_jump(areas),
        "complement": float(masklib.iou(small[1:], ~small[:-1]).max()) if len(small) > 1 else 0.0,
        "border": float(edge.mean(axis=1).max()),
    }
    if boxes:
        facts["inside_box"] = _share_inside(masks[0], boxes)
    return facts


def check_mask_facts(facts: dict[str, float], limits: GuardSettings) -> None:
    """Reject masks whose facts, of `mask_facts`, break a limit.

    Raises:
        Reject: `no_target`, `mask_outside_box`, `whole_image`, `complement_mask`, `mask_too_small`, `mask_too_large`,
            `coverage`, `area_jump`, `temporal_iou` or `mask_touches_border`, with value and limit.
    """
    if not facts["first_area"]:
        raise Reject("no_target", "its mask is empty in the first frame", dict(facts))
    check_gates(
        facts,
        [
            ("mask_outside_box", "inside_box", "at least", limits.min_inside_box),
            ("whole_image", "largest_area", "at most", limits.max_frame_area),
            ("complement_mask", "complement", "at most", limits.max_complement),
            ("mask_too_small", "area", "at least", limits.min_area),
            ("mask_too_large", "area", "at most", limits.max_area),
            ("coverage", "coverage", "at least", limits.min_coverage),
            ("area_jump", "largest_area_jump", "at most", limits.max_area_jump),
            ("temporal_iou", "temporal_iou", "at least", limits.min_temporal_iou),
            ("mask_touches_border", "border", "at most", limits.max_border),
        ],
    )


def check_gates(facts: dict[str, float], gates: Sequence[Gate]) -> None:
    """Reject by the first gate whose limit is broken; gates without a measured fact are skipped.

    Raises:
        Reject: the gate's reason, with value and limit.
    """
    for reason, name, how, limit in gates:
        value = facts.get(name)
        if value is not None and (value < limit if how == "at least" else value > limit):
            raise Reject(reason, f"{name} is {value:.4g}, {how} {limit:g}", dict(facts))


def first_accepted(phrases: Sequence[str], attempt: Callable[[str], Segmentation]) -> Segmentation:
    """Try phrases in order until one is not rejected.

    Raises:
        Reject: of the first phrase that was found, or else `no_target`.
    """
    rejects = []
    for phrase in phrases:
        try:
            return attempt(phrase)
        except Reject as reject:
            rejects.append((phrase, reject))
    for phrase, reject in rejects:
        if reject.reason != "no_target":
            raise Reject(reject.reason, f"{phrase!r}: {reject.detail}", reject.facts)
    details = "; ".join(f"{phrase!r}: {reject.detail}" for phrase, reject in rejects)
    raise Reject("no_target", details or "no phrase and no box to look for", rejects[0][1].facts if rejects else {})


def clip_box(box: Sequence[float], size: tuple[int, int]) -> Box:
    """Return the part of a box that lies in a frame of `size` (height, width).

    Raises:
        Reject: `no_target` where no pixel of it does.
    """
    height, width = size
    x0, y0, x1, y1 = (float(value) for value in box)
    inside = (max(0.0, x0), max(0.0, y0), min(float(width), x1), min(float(height), y1))
    if inside[2] - inside[0] < 1 or inside[3] - inside[1] < 1:
        raise Reject("no_target", f"the box {tuple(box)} holds nothing of a frame of {width}x{height}")
    return inside


def _overlap(a: Mask, b: Mask) -> float:
    """Overlap of two masks that are not empty, in place or with `b` moved onto `a`, whichever fits better."""
    (ax, ay), (bx, by) = _centre(a), _centre(b)
    shift = np.array([[1, 0, round(ax - bx)], [0, 1, round(ay - by)]], np.float32)
    moved = cv2.warpAffine(b.view(np.uint8), shift, b.shape[::-1], flags=cv2.INTER_NEAREST).astype(bool)
    return float(masklib.iou(np.stack([a, a]), np.stack([b, moved])).max())


def _centre(mask: Mask) -> tuple[float, float]:
    moments: dict[str, Any] = cv2.moments(mask.view(np.uint8), binaryImage=True)
    return moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]


def _largest_jump(areas: NDArray[np.float64]) -> float:
    """Largest factor between the areas of two frames in a row that show the object whole; 1 where none do."""
    visible_areas = areas[areas > 0]
    if not len(visible_areas):
        return 1.0
    visible = areas >= _MIN_VISIBLE * np.median(visible_areas)
    a, b = areas[:-1], areas[1:]
    pair = visible[:-1] & visible[1:]
    return float(np.maximum(a[pair] / b[pair], b[pair] / a[pair]).max(initial=1.0))


def _share_inside(mask: Mask, boxes: Sequence[Box]) -> float:
    allowed = np.zeros_like(mask)
    for x0, y0, x1, y1 in boxes:
        allowed[max(0, int(y0)) : int(np.ceil(y1)), max(0, int(x0)) : int(np.ceil(x1))] = True
    total = int(mask.sum())
    return float((mask & allowed).sum() / total) if total else 0.0
