"""Unsteadiness that the target has and the source has not."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.media.flow import backward_warp
from ffpdata.metrics.metric import Metric
from ffpdata.metrics.pair import LEAST_PIXELS

if TYPE_CHECKING:
    from ffpdata.metrics.pair import Pair, Series

PATCHES = 8
"""Patches along the width of the picture whose brightness is followed."""


def flicker_outside(pair: Pair) -> float | None:
    """Change of brightness from frame to frame that the target adds, root mean square, in the worst tenth of patches.

    Outside the region of a local edit; of the whole picture of a stylization, where it is the picture's mean.
    """
    if len(pair) < 2:
        return None
    if pair.whole:
        means = [clip.mean(axis=(1, 2), dtype=np.float64) for clip in pair.gray]
        beats = [np.abs(np.diff(values, 2)) if len(values) > 2 else np.zeros(1) for values in means]
        return float(np.sqrt((np.clip(beats[1] - beats[0], 0, None) ** 2).mean()))
    height, width = pair.gray[0].shape[1:]
    size = (min(width, PATCHES), max(1, round(min(width, PATCHES) * height / width)))
    offsets, shares = [], []
    for before, after, where in zip(*pair.gray, pair.outside, strict=True):
        difference = (after.astype(np.float32) - before) * where
        share = cv2.resize(where.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        offsets.append(cv2.resize(difference, size, interpolation=cv2.INTER_AREA) / np.maximum(share, 1e-6))
        shares.append(share)
    steady = np.min(shares, axis=0) > 0.25
    if not steady.any():
        return None
    beat = np.sqrt((np.diff(np.stack(offsets), axis=0) ** 2).mean(axis=0))
    return float(np.percentile(beat[steady], 90))


def flicker_worst(pair: Pair) -> float | None:
    """Largest step of the picture's brightness, outside the region of a local edit, that the target adds."""
    if len(pair) < 3:
        return None
    if pair.whole:
        steps = [np.abs(np.diff(clip.mean(axis=(1, 2), dtype=np.float64))) for clip in pair.gray]
        return float((steps[1] - 2 * steps[0]).max() - np.median(steps[1]))
    offsets = [
        float((after.astype(np.float32) - before)[where].mean())
        for before, after, where in zip(*pair.gray, pair.outside, strict=True)
        if where.any()
    ]
    return max((abs(b - a) for a, b in pairwise(offsets)), default=0.0)


def flicker_inside(pair: Pair) -> float | None:
    """Warp error of the target within the edit, along its own motion, beyond the source's; local edits only."""
    if pair.whole:
        return None
    source, target = (
        _warp_errors(clip, flows, pair.edited)
        for clip, flows in zip(pair.gray, (pair.flows, pair.target_flows), strict=True)
    )
    around = _warp_errors(pair.gray[0], pair.flows, pair.outside)
    known = np.isfinite(source) & np.isfinite(target)
    if not known.any():
        return None
    calm = max(float(source[known].mean()), float(np.nan_to_num(around).mean()))
    return float(target[known].mean()) - calm


def warp_error_added(pair: Pair) -> float | None:
    """Mean difference of a frame and its successor warped back along the source's motion, beyond the source's own."""
    added = pair.once(_added)
    return float(added.mean()) if len(added) else None


def warp_error_worst(pair: Pair) -> float | None:
    """Added warp error of the worst step, beyond the clip's median: a cut, a jump, an odd frame."""
    added = pair.once(_added)
    return float(added.max() - np.median(added)) if len(added) else None


def _added(pair: Pair) -> Series:
    everywhere = np.ones(pair.gray[0].shape, bool)
    source, target = (_warp_errors(clip, pair.flows, everywhere) for clip in pair.gray)
    return target - source


def _warp_errors(clip: np.ndarray, flows: np.ndarray, where: np.ndarray) -> Series:
    """Mean absolute error of each step, (T - 1,), in grey levels; NaN where nothing is to be compared."""
    found = np.full(len(flows), np.nan)
    for t, flow in enumerate(flows):
        both = where[t] & where[t + 1]
        if both.sum() >= LEAST_PIXELS:
            found[t] = cv2.mean(cv2.absdiff(backward_warp(clip[t + 1], flow), clip[t]), both.astype(np.uint8))[0]
    return found


METRICS = (
    Metric(flicker_outside, "grey levels", "lower", 0, 255),
    Metric(flicker_worst, "grey levels", "lower", 0, 255),
    Metric(flicker_inside, "grey levels", "lower", 0, 255),
    Metric(warp_error_added, "grey levels", "lower", -255, 255),
    Metric(warp_error_worst, "grey levels", "lower", 0, 255),
)
