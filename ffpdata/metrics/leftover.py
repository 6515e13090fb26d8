"""What is left of an object that was removed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ffpdata.metrics.metric import Metric
from ffpdata.metrics.pair import LEAST_PIXELS, blur, grow

if TYPE_CHECKING:
    from ffpdata.metrics.pair import Pair, Series


def leftover(pair: Pair) -> float | None:
    """Part of the object's edges that is still in the target, mean over the frames; removals only."""
    values = pair.once(_leftovers)
    return float(values.mean()) if len(values) else None


def leftover_worst(pair: Pair) -> float | None:
    """Part of the object's edges that is still in the target, in the worst frame; removals only."""
    values = pair.once(_leftovers)
    return float(values.max()) if len(values) else None


def _leftovers(pair: Pair) -> Series:
    """Share of the source's fine pattern in the target, around the object, per frame."""
    if pair.whole or not pair.removes:
        return np.array([])
    found = []
    for t, mask in enumerate(pair.edited):
        where = grow(mask, 1)
        if where.sum() < LEAST_PIXELS:
            continue
        fine = [image.astype(np.float32) - blur(image, 3.0) for image in (pair.gray[0][t], pair.gray[1][t])]
        before, after = (part[where] - part[where].mean() for part in fine)
        strength = float((before**2).sum())
        if strength > 4.0 * before.size:  # an object without a pattern leaves none
            found.append(float((before * after).sum()) / strength)
    return np.array(found)


METRICS = (
    Metric(leftover, "fraction", "lower", 0, 1),
    Metric(leftover_worst, "fraction", "lower", 0, 1),
)
