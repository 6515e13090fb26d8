"""Whether the edit is there in every frame, above all in the first, on which first-frame propagation conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.media.flow import backward_warp
from ffpdata.metrics.metric import Metric
from ffpdata.metrics.pair import LEAST_PIXELS

if TYPE_CHECKING:
    from ffpdata.metrics.pair import Pair, Series

MISSING = 0.4
"""A frame counts as unedited where it changed by less than this fraction of what the clip's frames mostly do."""


def first_frame_change(pair: Pair) -> float | None:
    """Change of the first frame where the edit must show, as a fraction of the clip's median; 0 is unedited."""
    changes = pair.once(_changes)
    shown = np.flatnonzero(np.isfinite(changes))
    usual = _usual(changes)
    return float(changes[shown[0]] / usual) if usual else None


def edit_weakest(pair: Pair) -> float | None:
    """Change of the least changed frame where the edit must show, as a fraction of the clip's median."""
    changes, usual = pair.once(_changes), _usual(pair.once(_changes))
    return float(np.nanmin(changes) / usual) if usual else None


def edit_missing(pair: Pair) -> float | None:
    """Frames in which the edit is missing: changed by less than 0.4 of the clip's upper quartile."""
    changes = pair.once(_changes)
    changes = changes[np.isfinite(changes)]
    if not len(changes):
        return None
    return float((changes < MISSING * np.percentile(changes, 75)).mean())


def edit_jump(pair: Pair) -> float | None:
    """Largest jump of the edit from a frame to the next, followed along the source's motion, beyond its usual one."""
    usual = _usual(pair.once(_changes))
    if not usual or len(pair) < 3:
        return None
    jumps = []
    before, after = pair.gray
    last = after[0].astype(np.float32) - before[0]
    for t, flow in enumerate(pair.flows):
        now = after[t + 1].astype(np.float32) - before[t + 1]
        where = pair.edited[t] & pair.edited[t + 1]
        if where.sum() >= LEAST_PIXELS:
            jumps.append(float(np.abs(backward_warp(now, flow) - last)[where].mean()))
        last = now
    return float((max(jumps) - np.median(jumps)) / usual) if jumps else None


def _changes(pair: Pair) -> Series:
    """Mean absolute difference where the edit must show, per frame; NaN in frames without such a place."""
    found = np.full(len(pair), np.nan)
    for t, where in enumerate(pair.edited):
        if where.sum() >= LEAST_PIXELS:
            found[t] = cv2.mean(cv2.absdiff(pair.small[0][t], pair.small[1][t]), where.astype(np.uint8))[:3] @ _THIRD
    return found


_THIRD = np.full(3, 1 / 3)


def _usual(changes: Series) -> float:
    known = changes[np.isfinite(changes)]
    return float(np.median(known)) if len(known) and np.median(known) > 0.5 else 0.0


METRICS = (
    Metric(first_frame_change, "of the median", "neither", 0, 10),
    Metric(edit_weakest, "of the median", "higher", 0, 1),
    Metric(edit_missing, "fraction of frames", "lower", 0, 1),
    Metric(edit_jump, "of the median", "lower", 0, 10),
)
