"""Geometry of masks: bool (T, H, W), True = edit this pixel.

Radii are whole pixels and the structuring element is the disc `dx*dx + dy*dy <= px*px`. Pixels outside the frame
are unknown and change nothing: a mask that touches the frame's edge is not eroded from there. Empty masks stay empty.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Masks = NDArray[np.bool_]

KERNEL_MAX_PX = 16
"""Above this radius a distance transform is faster than the kernel; both give the same pixels."""


def erode(masks: Masks, px: int) -> Masks:
    """Remove the pixels that are within `px` of the background.

    Args:
        masks: bool (T, H, W).
        px: radius in pixels, >= 0.

    Returns:
        bool (T, H, W), a new array.
    """
    return _morph(masks, px, _erode_crop, grow=0)


def dilate(masks: Masks, px: int) -> Masks:
    """Add the pixels that are within `px` of the mask. Arguments and result as for `erode`."""
    return _morph(masks, px, _dilate_crop, grow=px)


def boundary(masks: Masks, px: int) -> Masks:
    """Return the band of `px` pixels on either side of the contour, bool (T, H, W); empty for `px` 0."""
    return dilate(masks, px) & ~erode(masks, px)


def hull(masks: Masks) -> Masks:
    """Return the convex hull of each frame's mask, all its parts together, bool (T, H, W)."""
    _check_masks(masks)
    out = masks.copy()
    for mask, filled in zip(masks, out, strict=True):
        contours, _ = cv2.findContours(_as_uint8(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        if contours:
            canvas = np.zeros(mask.shape, np.uint8)
            cv2.fillConvexPoly(canvas, cv2.convexHull(np.concatenate(contours)), 1)
            np.logical_or(filled, canvas, out=filled)
    return out


def box(masks: Masks, margin_fraction: float = 0.0, margin_px: int = 0) -> Masks:
    """Fill the bounding box of each frame's mask, widened by a margin and clipped to the frame.

    Args:
        masks: bool (T, H, W).
        margin_fraction: margin on each side as a fraction of the box's own width and height, >= 0.
        margin_px: further margin on each side in pixels, >= 0.

    Returns:
        bool (T, H, W).
    """
    if margin_fraction < 0 or margin_px < 0:
        raise ValueError(f"box margins must not be negative: margin_fraction {margin_fraction}, margin_px {margin_px}")
    out = np.zeros_like(masks)
    for filled, (x0, y0, x1, y1) in zip(out, bounding_boxes(masks).tolist(), strict=True):
        if x1 > x0:
            mx = int(np.ceil((x1 - x0) * margin_fraction)) + margin_px
            my = int(np.ceil((y1 - y0) * margin_fraction)) + margin_px
            filled[max(0, y0 - my) : y1 + my, max(0, x0 - mx) : x1 + mx] = True
    return out


def area(masks: Masks) -> NDArray[np.int64]:
    """Count the pixels of each frame's mask, int64 (T,)."""
    _check_masks(masks)
    return np.array([cv2.countNonZero(_as_uint8(mask)) for mask in masks], np.int64)


def iou(a: Masks, b: Masks) -> NDArray[np.float64]:
    """Intersection over union per frame, float64 (T,) in 0..1; two empty masks agree, 1."""
    inter, joint = area(a & b), area(a | b)
    return np.divide(inter, joint, out=np.ones(len(a)), where=joint > 0)


def bounding_boxes(masks: Masks) -> NDArray[np.int64]:
    """Return x0, y0, x1, y1 of each frame's mask, half-open, int64 (T, 4); zeros where the mask is empty."""
    _check_masks(masks)
    boxes = np.zeros((len(masks), 4), np.int64)
    for i, mask in enumerate(masks):
        x, y, w, h = cv2.boundingRect(_as_uint8(mask))
        if w:
            boxes[i] = x, y, x + w, y + h
    return boxes


def feather(masks: Masks, px: int) -> NDArray[np.float32]:
    """Return soft alpha for blending: 1 on the mask, falling in a straight line to 0 at `px` + 1 pixels outside it.

    Args:
        masks: bool (T, H, W).
        px: width of the fall in pixels, >= 0; 0 gives the hard mask.

    Returns:
        float32 (T, H, W) in 0..1.
    """
    _check_masks(masks, px)
    out = masks.astype(np.float32)
    if px == 0:
        return out
    for mask, alpha, crop in zip(masks, out, _crops(masks, px), strict=True):
        if crop is not None:
            distance = cv2.distanceTransform(_as_uint8(~mask[crop]), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            alpha[crop] = np.clip(1 - distance / (px + 1), 0, 1)
    return out


def _morph(masks: Masks, px: int, operation: Callable[[NDArray[np.uint8], int], NDArray[Any]], grow: int) -> Masks:
    """Apply `operation` to the part of each frame that it can change."""
    _check_masks(masks, px)
    if px == 0:
        return masks.copy()
    out = np.zeros_like(masks)
    for mask, result, crop in zip(masks, out, _crops(masks, max(grow, 1)), strict=True):
        if crop is not None:
            result[crop] = operation(_as_uint8(mask[crop]), px)
    return out


def _crops(masks: Masks, margin: int) -> list[tuple[slice, slice] | None]:
    """Return bounding boxes widened by `margin` as (rows, columns); None where the mask is empty.

    A margin of 1 keeps one row of background on each side, which an erosion needs.
    """
    crops: list[tuple[slice, slice] | None] = []
    for x0, y0, x1, y1 in bounding_boxes(masks).tolist():
        rows, columns = slice(max(0, y0 - margin), y1 + margin), slice(max(0, x0 - margin), x1 + margin)
        crops.append((rows, columns) if x1 > x0 else None)
    return crops


def _erode_crop(mask: NDArray[np.uint8], px: int) -> NDArray[Any]:
    if px <= KERNEL_MAX_PX:
        return cv2.erode(mask, _disc(px))
    return cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) > _threshold(px)


def _dilate_crop(mask: NDArray[np.uint8], px: int) -> NDArray[Any]:
    if px <= KERNEL_MAX_PX:
        return cv2.dilate(mask, _disc(px))
    return cv2.distanceTransform(1 - mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= _threshold(px)


def _disc(px: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[-px : px + 1, -px : px + 1]
    disc: NDArray[np.uint8] = (x * x + y * y <= px * px).astype(np.uint8)
    return disc


def _threshold(px: int) -> float:
    """Return a distance between `px` and the next larger one of two pixels: squared distances are whole numbers."""
    return float(np.sqrt(px * px + 0.5))


def _as_uint8(mask: Masks) -> NDArray[np.uint8]:
    return np.ascontiguousarray(mask).view(np.uint8)


def _check_masks(masks: Masks, px: int = 0) -> None:
    if masks.dtype != np.bool_ or masks.ndim != 3:
        raise TypeError(f"masks must be bool (T, H, W), found {masks.dtype} {masks.shape}")
    if px < 0 or px != int(px):
        raise ValueError(f"a radius is a whole number of pixels >= 0, found {px}")
