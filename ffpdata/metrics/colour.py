"""Colours that drift: between the clips, and from frame to frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.metrics.metric import Metric

if TYPE_CHECKING:
    from ffpdata.metrics.pair import Pair, Series

ENDS = 8
"""The beginning and the end of a clip are this part of its frames."""


def colour_drift_worst(pair: Pair) -> float | None:
    """Lab distance of the mean colours outside the region in the worst frame; local edits only."""
    offsets = _offsets(pair)
    return None if pair.whole or not len(offsets) else float(np.linalg.norm(offsets, axis=1).max())


def colour_wander(pair: Pair) -> float | None:
    """Farthest way of the target's mean colour from its median, beyond the source's own way, in Lab."""
    colours = _lab(pair)
    if not colours.shape[1]:
        return None
    ways = np.linalg.norm(colours - np.median(colours, axis=1, keepdims=True), axis=-1)
    if not pair.whole:
        offsets = _offsets(pair)
        return float(np.linalg.norm(offsets - np.median(offsets, axis=0), axis=1).max())
    return float(np.clip(ways[1] - ways[0], 0, None).max())


def colour_trend(pair: Pair) -> float | None:
    """How much farther the target's mean colour goes from the clip's beginning to its end than the source's, in Lab.

    A slow drift has its whole way in it, of which a distance from the median has half.
    """
    colours = _lab(pair)
    count = colours.shape[1]
    if count < 2:
        return None
    part = max(1, count // ENDS)
    ways = colours[:, -part:].mean(axis=1) - colours[:, :part].mean(axis=1)
    if not pair.whole:
        return float(np.linalg.norm(ways[1] - ways[0]))
    return max(0.0, float(np.linalg.norm(ways[1]) - np.linalg.norm(ways[0])))


def _lab(pair: Pair) -> Series:
    """Mean Lab colours of the frames, (2, n, 3) of source and target."""
    kept = np.isfinite(pair.full.colour).all(axis=(0, 2))
    rgb = (pair.full.colour[:, kept] / 255).astype(np.float32)
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab).astype(np.float64) if kept.any() else rgb.astype(np.float64)


def _offsets(pair: Pair) -> Series:
    lab = _lab(pair)
    return lab[1] - lab[0]


METRICS = (
    Metric(colour_drift_worst, "CIE76", "lower", 0, 375),
    Metric(colour_wander, "CIE76", "lower", 0, 375),
    Metric(colour_trend, "CIE76", "lower", 0, 375),
)
