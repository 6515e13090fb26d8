"""The object itself within its outline: without the shadow on the ground that an outline often takes along."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.models.classical.colour import to_lab

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]
    Masks = NDArray[np.bool_]
    Mask = NDArray[np.bool_]

SIDE = 480
"""Long side, in pixels, of the copy on which shadows are looked for."""
DARKER = (0.12, 0.88)
"""Lightness of a shadow, of the lit ground's."""
ALIKE = 7.0
"""Largest CIE Lab chroma distance between a shadow and its ground."""
SMOOTH = 3.0
"""A shadow's grain, in grey levels, is at most so much above that of its ground."""
LOWER = 0.5
"""Shadows are looked for in this lower part of the object's box."""
MOST = 0.35
"""A larger part of an object is no shadow, whatever it looks like: then the object resembles its ground."""
_RING = 0.08
"""Width of the ring around the object in which the ground is measured, of the box's longer side."""
_SAMPLES = 8
"""Frames on which the shadow's share of the object is decided."""


def without_shadow(frames: Frames, masks: Masks) -> tuple[Masks, float]:
    """Take the shadow on the ground out of an object's masks.

    A pixel is shadow where it has the ground's hue and grain and is darker, in a region that touches the outline from
    inside in the lower half of the object.

    Args:
        frames: uint8 (T, H, W, 3) RGB.
        masks: bool (T, H, W), True on the object with its shadow.

    Returns:
        Masks, bool (T, H, W), and the share that was taken out, 0..1: 0 where there is no shadow.
    """
    height, width = masks.shape[1:]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(8, round(width * scale)), max(8, round(height * scale)))
    picks = set(np.unique(np.linspace(0, len(frames) - 1, _SAMPLES).round().astype(int)).tolist())

    def shade(t: int) -> tuple[Mask, Mask]:
        small = cv2.resize(frames[t], size, interpolation=cv2.INTER_AREA)
        mask = cv2.resize(masks[t].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        return _shadow(small, mask), mask

    tried = [shade(t) for t in sorted(picks)]
    shares = [float(s.sum() / m.sum()) for s, m in tried if m.any()]
    share = float(np.median(shares)) if shares else 0.0
    if not 0.01 <= share <= MOST:
        return masks, 0.0
    out = masks.copy()
    for t in range(len(frames)):
        found = shade(t)[0]
        if found.any():
            out[t] &= cv2.resize(found.astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR) == 0
    return out, share


def _shadow(frame: NDArray[np.uint8], mask: Mask) -> Mask:
    """Return the shadow pixels in a small frame (h, w, 3) and its mask, bool (h, w)."""
    none = np.zeros_like(mask)
    if mask.sum() < 40:
        return none
    _, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
    reach = max(3, round(_RING * max(w, h)))
    top = y + round(h * (1 - LOWER))
    near = cv2.dilate(mask.astype(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)) > 0
    rim = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    ring = near & ~rim
    ring[:top] = False
    if ring.sum() < 30:
        return none
    lab = to_lab(frame)
    ground = np.median(lab[ring], axis=0)
    soft = cv2.GaussianBlur(lab, (0, 0), 1.2)
    grain = cv2.GaussianBlur(np.abs(lab[..., 0] - cv2.GaussianBlur(lab[..., 0], (0, 0), 1.5)), (0, 0), 2)
    part = soft[..., 0] / max(float(ground[0]), 1.0)
    alike = np.hypot(*(soft[..., i] - ground[i] * np.clip(part, 0.3, 1) for i in (1, 2))) < ALIKE
    rough = float(np.median(grain[ring])) + SMOOTH * 100 / 255
    may_be = mask & alike & (part > DARKER[0]) & (part < DARKER[1])
    may_be[:top] = False
    core = cv2.morphologyEx((may_be & (grain < rough)).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    # Its own border is no grain: a smooth core grows to it.
    for _ in range(max(2, reach // 2)):
        core = cv2.dilate(core, np.ones((3, 3), np.uint8)) & may_be
    inside = cv2.erode(mask.astype(np.uint8), np.ones((5, 5), np.uint8), borderValue=0) > 0
    count, labels = cv2.connectedComponents(core)
    least = 0.005 * mask.sum()
    kept = [i for i in range(1, count) if (labels == i)[~inside].any() and (labels == i).sum() >= least]
    found: Mask = np.isin(labels, kept)
    return found
