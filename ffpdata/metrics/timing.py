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
FITS = 0.3
"""Correlation below which a moment does not fit: of a still scene nothing but grain is left, and coders remove it."""
CLEARLY = 0.2
"""Part of what a frame's own fit lacks to 1 by which another moment's must be better."""
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
    return abs(_lag(fits[REACH:-REACH].mean(axis=0))) if len(fits) else None


def lag_worst(pair: Pair) -> float | None:
    """Largest lag of a part of the clip (a quarter of it, at least 8 frames), in frames, without sign."""
    lags = pair.once(_lags)
    return float(np.abs(lags).max()) if len(lags) else None


def lag_change(pair: Pair) -> float | None:
    """How much the lag differs between parts of the clip: a frame that was doubled or left out shifts what follows."""
    lags = pair.once(_lags)
    return float(np.ptp(lags)) if len(lags) else None


def misplaced_frames(pair: Pair) -> float | None:
    """Frames that fit another moment of the source clearly better than their own."""
    fits = pair.once(_fits)
    if not len(fits):
        return None
    inner = fits[REACH:-REACH]
    others = np.delete(inner, REACH, axis=1).max(axis=1)
    return float((others > inner[:, REACH] + CLEARLY * (1 - inner[:, REACH])).mean())


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
    """Correlation of each target frame with the source's frames around it, (T, 2 REACH + 1); NaN beyond the clip.

    Column REACH + d compares with the frame d before. What is the same in all frames is taken out first, so that only
    what moves is compared, and where nothing does, the grain. Outside of a removal the pixels are compared as they are,
    of other edits the edges of the whole picture. No rows where there are too few frames or pixels.
    """
    count = len(pair)
    if pair.removes and not pair.whole:
        where = np.logical_and.reduce(pair.outside)
        clips = [clip[:, where].astype(np.float32) for clip in pair.gray]
    else:
        clips = [clip.reshape(count, -1) for clip in pair.edges]
    if count < 2 * REACH + 2 or clips[0].shape[1] < 4 * LEAST_PIXELS:
        return np.zeros((0, 2 * REACH + 1))
    moving = [clip - clip.mean(axis=0) for clip in clips]
    source, target = (clip / (np.linalg.norm(clip, axis=1, keepdims=True) + 1e-6) for clip in moving)
    fits = np.full((count, 2 * REACH + 1), np.nan)
    for lag in range(-REACH, REACH + 1):
        for t in range(max(0, lag), min(count, count + lag)):
            fits[t, REACH + lag] = target[t] @ source[t - lag]
    return fits


def _lags(pair: Pair) -> Series:
    """Lag of each part of the clip, frames: coders repeat some frames, and a part has several."""
    fits = pair.once(_fits)[REACH:-REACH]
    size = max(8, len(pair) // 4)
    if len(fits) < size:
        return np.zeros(0)
    return np.array([_lag(fits[start : start + size].mean(axis=0)) for start in range(len(fits) - size + 1)])


def _lag(fits: Series) -> float:
    """Place of the best fit in frames, by a parabola through it and its neighbours; 0 where none fits."""
    best = int(fits.argmax())
    if fits[best] < FITS or np.ptp(fits) < 1e-3:
        return 0.0
    if best in {0, len(fits) - 1}:
        return float(best - REACH)
    left, here, right = (float(value) for value in fits[best - 1 : best + 2])
    bend = left - 2 * here + right
    return best - REACH + (0.5 * (left - right) / bend if bend < 0 else 0.0)


METRICS = (
    Metric(frozen_frames, "fraction of steps", "lower", 0, 1),
    Metric(skipped_frames, "ratio", "lower", 0, 20),
    Metric(frame_lag, "frames", "lower", 0, REACH),
    Metric(lag_worst, "frames", "lower", 0, REACH),
    Metric(lag_change, "frames", "lower", 0, 2 * REACH),
    Metric(misplaced_frames, "fraction of frames", "lower", 0, 1),
)
