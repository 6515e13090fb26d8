"""Whether the outline of a local edit stays on its object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.metrics.metric import Metric
from ffpdata.metrics.pair import LEAST_PIXELS, blur, grow

if TYPE_CHECKING:
    from ffpdata.metrics.pair import Masks, Pair

CHANGED = 14.0
"""Difference of grey levels, slightly blurred, from which a pixel counts as edited."""
SUDDEN = 0.3
"""An outline that shrinks to nothing from more than this fraction of its median area was lost, and did not walk off."""


def outline_lost(pair: Pair) -> float | None:
    """Frames without an outline though the object did not leave by the picture's border; local edits only."""
    if pair.whole or pair.around:
        return None
    areas = pair.edited.sum(axis=(1, 2))
    shown = np.flatnonzero(areas >= LEAST_PIXELS)
    if not len(shown):
        return 1.0
    usual = float(np.median(areas[shown]))
    lost = 0
    for start, stop in _gaps(areas >= LEAST_PIXELS):
        beside = [t for t in (start - 1, stop) if 0 <= t < len(areas)]
        if any(areas[t] > SUDDEN * usual and not _at_border(pair.edited[t]) for t in beside):
            lost += stop - start
    return lost / len(areas)


def edit_in_outline(pair: Pair) -> float | None:
    """Part of the changed pixels that lies within the outline or close to it, in the worst tenth of the frames."""
    if pair.whole or pair.around:
        return None
    shares = []
    for t, mask in enumerate(pair.edited):
        changed = _changed(pair, t)
        if changed.sum() >= LEAST_PIXELS:
            shares.append(float((changed & grow(mask, 6)).sum() / changed.sum()))
    return float(np.percentile(shares, 10)) if shares else None


def outline_filled(pair: Pair) -> float | None:
    """Part of the outline in which pixels changed, in the worst tenth of the frames, over the clip's median."""
    if pair.whole or pair.around:
        return None
    shares = [
        float((_changed(pair, t) & mask).sum() / mask.sum())
        for t, mask in enumerate(pair.edited)
        if mask.sum() >= LEAST_PIXELS
    ]
    if not shares or np.median(shares) < 0.05:
        return None
    return float(np.percentile(shares, 10) / np.median(shares))


def _changed(pair: Pair, t: int) -> Masks:
    difference = cv2.absdiff(pair.small[0][t], pair.small[1][t]).max(-1)
    return blur(difference, 1.5) > CHANGED


def _gaps(shown: Masks) -> list[tuple[int, int]]:
    """Return first and one past the last index of each run of False."""
    edges = np.flatnonzero(np.diff(np.concatenate([[1], shown.astype(np.int8), [1]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _at_border(mask: Masks) -> bool:
    return bool(mask[:2].any() or mask[-2:].any() or mask[:, :2].any() or mask[:, -2:].any())


METRICS = (
    Metric(outline_lost, "fraction of frames", "lower", 0, 1),
    Metric(edit_in_outline, "fraction", "higher", 0, 1),
    Metric(outline_filled, "of the median", "higher", 0, 1),
)
