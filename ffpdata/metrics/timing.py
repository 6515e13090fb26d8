"""Frames that stand still, are skipped, or show another moment than the source's frame of the same number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ffpdata.metrics.metric import Metric
from ffpdata.metrics.pair import LEAST_PIXELS

if TYPE_CHECKING:
    from ffpdata.metrics.pair import Floats, Pair, Series

REACH = 3
"""Frames before and after with which a frame is compared."""
STILL = 0.35
"""Step of the target over the source's, against the clip's usual ratio, below which the target stands still."""
MOVES = 0.7
"""Mean change of grey levels from which a step of the source is one."""


def frozen_frames(pair: Pair) -> float | None:
    """Steps in which the target stands still though the source moves."""
    ratios = pair.once(_step_ratios)
    return float((ratios < STILL).mean()) if len(ratios) else None


def skipped_frames(pair: Pair) -> float | None:
    """Longest step of the target over that of the source, against the clip's usual ratio: 2 is a frame left out."""
    ratios = pair.once(_step_ratios)
    return float(ratios.max()) if len(ratios) else None


def frame_lag(pair: Pair) -> float | None:
    """Frames by which the target as a whole runs behind its source, or ahead of it, without sign."""
    fits = pair.once(_fits)
    if not len(fits):
        return None
    return _vertex(fits.mean(axis=0))


def misplaced_frames(pair: Pair) -> float | None:
    """Frames that fit another moment of the source clearly better than their own."""
    fits = pair.once(_fits)
    if not len(fits):
        return None
    others = np.delete(fits, REACH, axis=1).max(axis=1)
    return float((others > fits[:, REACH] + 0.1 * (1 - fits[:, REACH])).mean())


def _step_ratios(pair: Pair) -> Series:
    steps = []
    for clip in pair.gray:
        moved = np.abs(np.diff(clip.astype(np.int16), axis=0))
        both = pair.outside[1:] & pair.outside[:-1] if not pair.whole else np.ones(moved.shape, bool)
        steps.append((moved * both).sum(axis=(1, 2)) / np.maximum(both.sum(axis=(1, 2)), 1))
    before, after = steps
    if not len(before):
        return before
    counted = (before > MOVES) & (before > 0.3 * np.median(before))
    if counted.sum() < 3:
        return np.array([])
    ratios = after[counted] / before[counted]
    usual = float(np.percentile(ratios, 75))
    return ratios / usual if usual > 0 else ratios


def _fits(pair: Pair) -> Floats:
    """Correlation of each target frame with the source's frames around it, (n, 2 REACH + 1).

    Pixels outside the region of a local edit are compared as they are, and the edges of a stylization. Only pixels
    count in which the source moves; frames without any are left out.
    """
    first, second = pair.edges if pair.whole or not pair.removes else pair.gray
    found = []
    for t in range(REACH, len(pair) - REACH):
        around = range(t - REACH, t + REACH + 1)
        where = pair.outside[t] if pair.removes and not pair.whole else np.ones(first.shape[1:], bool)
        if pair.removes and not pair.whole:
            where = np.logical_and.reduce(pair.outside[around.start : around.stop])
        moving = np.abs(first[t + 1].astype(np.float32) - first[t - 1])
        if not where.any():
            continue
        level = max(float(np.percentile(moving[where], 80)), 3.0 if first.dtype == np.uint8 else 0.1)
        where = where & (moving >= level)
        if where.sum() < 4 * LEAST_PIXELS:
            continue
        goal = second[t][where].astype(np.float32)
        found.append([_correlation(first[n][where].astype(np.float32), goal) for n in around])
    return np.array(found)


def _correlation(first: Floats, second: Floats) -> float:
    a, b = first - first.mean(), second - second.mean()
    size = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / size if size > 1e-6 else 0.0


def _vertex(fits: Series) -> float:
    """Place of the best fit, in frames from the middle, by a parabola through it and its neighbours."""
    best = int(fits.argmax())
    if best in (0, len(fits) - 1):
        return float(abs(best - REACH))
    left, here, right = fits[best - 1 : best + 2]
    bend = left - 2 * here + right
    return abs(best - REACH + (0.5 * (left - right) / bend if bend < -1e-6 else 0.0))


METRICS = (
    Metric(frozen_frames, "fraction of steps", "lower", 0, 1),
    Metric(skipped_frames, "ratio", "lower", 0, 20),
    Metric(frame_lag, "frames", "lower", 0, REACH),
    Metric(misplaced_frames, "fraction of frames", "lower", 0, 1),
)
