"""Whether the target moves as its source does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ffpdata.metrics.metric import Metric

if TYPE_CHECKING:
    from ffpdata.metrics.pair import Pair, Series

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
)
