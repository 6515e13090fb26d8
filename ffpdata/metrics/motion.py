"""How the source moves, and whether the target moves with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ffpdata.metrics.metric import Metric

if TYPE_CHECKING:
    from ffpdata.metrics.pair import Floats, Pair, Series

DESCRIBES = ("speed", "speed_peak", "moving_share")
"""Numbers of the source alone, which say nothing for or against a pair."""
MOVING = 0.001
"""Of the picture's width: motion of a frame from which a pixel counts as moving."""
LEAST = 0.25
"""Motion, in pixels of a small frame per step, below which there is nothing to agree about."""


def motion_agreement(pair: Pair) -> float | None:
    """Agreement of the target's flow with the source's where the source moves, mean over the steps; no removals."""
    values = pair.once(_agreement)
    return float(values.mean()) if len(values) else None


def motion_agreement_worst(pair: Pair) -> float | None:
    """Agreement of the flows in the worst tenth of the steps: a part of the clip that stands still is seen."""
    values = pair.once(_agreement)
    return float(np.percentile(values, 10)) if len(values) else None


def speed(pair: Pair) -> float | None:
    """Mean motion of the source, in pixels of the clip from a frame to the next."""
    values = pair.once(_speeds)
    return float(values.mean()) if len(values) else None


def speed_peak(pair: Pair) -> float | None:
    """Motion of the fastest twentieth of the source's pixels, mean over the steps, in pixels of the clip."""
    values = pair.once(_speeds)
    return float(np.percentile(values, 95, axis=(1, 2)).mean()) if len(values) else None


def moving_share(pair: Pair) -> float | None:
    """Part of the source's picture that moves by more than a thousandth of its width a frame, mean over the steps."""
    values = pair.once(_speeds)
    return float((values > MOVING * pair.source.shape[2]).mean()) if len(values) else None


def _speeds(pair: Pair) -> Floats:
    """Length of the source's flow, float32 (T - 1, h, w), pixels of the clip."""
    return np.hypot(pair.flows[..., 0], pair.flows[..., 1]) * np.float32(pair.scale)


def _agreement(pair: Pair) -> Series:
    found: list[float] = []
    if pair.removes:  # what moved is gone
        return np.array(found)
    for source, target in zip(pair.flows, pair.target_flows, strict=True):
        speed = np.hypot(source[..., 0], source[..., 1])
        where = speed > max(LEAST, float(np.percentile(speed, 60)))
        if where.sum() < 0.01 * where.size:
            continue
        apart = np.hypot(*(source - target)[where].T)
        both = speed[where] + np.hypot(*target[where].T)
        found.append(1 - float(apart.sum() / both.sum()))
    return np.array(found)


METRICS = (
    Metric(motion_agreement, "none", "higher", 0, 1),
    Metric(motion_agreement_worst, "none", "higher", 0, 1),
    Metric(speed, "pixels", "neither", 0, 1000),
    Metric(speed_peak, "pixels", "neither", 0, 1000),
    Metric(moving_share, "fraction", "neither", 0, 1),
)
