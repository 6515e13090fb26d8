"""All metrics of a pair that need no weights, in the order of their columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ffpdata.metrics import (
    alignment,
    colour,
    contour,
    detail,
    edit,
    flicker,
    leftover,
    motion,
    outline,
    outside,
    timing,
)

if TYPE_CHECKING:
    from ffpdata.metrics.metric import Metric
    from ffpdata.metrics.pair import Pair

VECTOR: tuple[Metric, ...] = (
    *outside.METRICS,
    *colour.METRICS,
    *edit.METRICS,
    *flicker.METRICS,
    *contour.METRICS,
    *leftover.METRICS,
    *timing.METRICS,
    *alignment.METRICS,
    *detail.METRICS,
    *motion.METRICS,
    *outline.METRICS,
)


def measure_pair(pair: Pair) -> dict[str, float]:
    """Return every metric that says something of the pair, by name."""
    values = {metric.name: metric.measure(pair) for metric in VECTOR}
    return {name: value for name, value in values.items() if value is not None}
