"""The numbers of a round as shapes: intervals, what became of the removals, and the loss."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ffpdata.refine.compared_measures import measure
from ffpdata.refine.comparison import MeasureChange
from ffpdata.refine.removal_results import OK, RemovalResults

PASSED = "passed all gates"

POINTS = 400
"""Of a drawn curve: more are no sharper on a screen."""

SMOOTH = 10
"""A curve is smoothed over one such part of its steps."""

Loss = tuple[int, float, float | None]
"""Step, training loss, and the loss on held-out pairs where it was measured."""


@dataclass(frozen=True)
class IntervalBar:
    """A difference and its interval, as x from 0 to 100: no difference at 50, better to the right.

    Attributes:
        middle: the difference.
        low, high: the interval; the same as the difference where there is none.
        limit: up to where it may become worse; None where it is not guarded.
    """

    middle: float
    low: float
    high: float
    limit: float | None


def bar(change: MeasureChange) -> IntervalBar:
    """Place a change on a scale of its own, which it fills."""
    side = measure(change.name).better or 1
    ends = [side * end for end in change.interval or (change.difference, change.difference)]
    limit = -change.limit if change.limit else None
    reach = 1.1 * max(abs(side * change.difference), *map(abs, ends), abs(limit or 0)) or 1.0

    def place(number: float) -> float:
        return 50 + 50 * number / reach

    return IntervalBar(
        middle=place(side * change.difference),
        low=place(min(ends)),
        high=place(max(ends)),
        limit=None if limit is None else place(limit),
    )


@dataclass(frozen=True)
class OutcomeCounts:
    """What became of some removals, under both models.

    Attributes:
        stage: where they ended; empty where they passed.
        reason: why.
        status: `ok`, `rejected` or `failed`.
        before: how many under the old model.
        after: how many under the new one.
    """

    stage: str
    reason: str
    status: str
    before: int
    after: int


def fates(before: RemovalResults, after: RemovalResults) -> list[OutcomeCounts]:
    """Count how the removals ended: those that passed first, then the most frequent reasons."""
    counts = [
        Counter(("", PASSED, OK) if o.status == OK else (o.stage, o.reason or "unknown", o.status) for o in outcomes)
        for outcomes in (before, after)
    ]
    ends = counts[0].keys() | counts[1].keys()
    found = [OutcomeCounts(*end, before=counts[0][end], after=counts[1][end]) for end in ends]
    return sorted(found, key=lambda f: (f.status != OK, -max(f.before, f.after), f.stage, f.reason))


@dataclass(frozen=True)
class LossCurve:
    """The loss over the steps, in a box of 1000 x 1000 with the largest loss at the top.

    Attributes:
        raw, smooth: training loss, as points of an SVG polyline.
        held: loss on held-out pairs, as (x, y, step, loss).
        low, high: losses at the bottom and at the top.
        first, last: steps at the left and at the right.
        begun, ended: smoothed training loss at the left and at the right.
    """

    raw: str
    smooth: str
    held: list[tuple[float, float, int, float]]
    low: float
    high: float
    first: int
    last: int
    begun: float
    ended: float

    @property
    def held_line(self) -> str:
        """The held-out loss, as points of an SVG polyline."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in self.held)


def curve(losses: Sequence[Loss]) -> LossCurve | None:
    """Draw the losses; None where there are none. Those that are not finite have no place in a picture."""
    trained = sorted((step, loss) for step, loss, _ in losses if math.isfinite(loss))
    held = sorted((step, loss) for step, _, loss in losses if loss is not None and math.isfinite(loss))
    if not trained:
        return None
    steps, values = (np.array(part, np.float64) for part in zip(*trained, strict=True))
    smooth = _smoothed(values)
    # A few wild steps would press everything else flat: the raw curve may leave the box.
    shown = [*smooth, *(loss for _, loss in held), *np.percentile(values, (2, 98))]
    low, high = min(shown), max(shown)
    if high <= low:
        low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)
    first, last = int(min(steps[0], *(s for s, _ in held[:1]))) if held else int(steps[0]), int(steps[-1])
    last = max(last, held[-1][0] if held else last)

    def place(step: float, loss: float) -> tuple[float, float]:
        x = 1000 * (step - first) / (last - first) if last > first else 500.0
        return x, float(np.clip(1000 * (high - loss) / (high - low), 0, 1000))

    def line(losses: np.ndarray) -> str:
        every = np.unique(np.linspace(0, len(steps) - 1, min(POINTS, len(steps))).round().astype(int))
        return " ".join("{:.1f},{:.1f}".format(*place(steps[n], losses[n])) for n in every)

    return LossCurve(
        raw=line(values),
        smooth=line(smooth),
        held=[(*place(step, loss), step, loss) for step, loss in held],
        low=float(low),
        high=float(high),
        first=first,
        last=last,
        begun=float(smooth[0]),
        ended=float(smooth[-1]),
    )


def _smoothed(values: np.ndarray) -> np.ndarray:
    """A running mean; at the ends over what there is."""
    half = len(values) // (2 * SMOOTH)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    low, high = np.maximum(at - half, 0), np.minimum(at + half + 1, len(values))
    means: np.ndarray = (sums[high] - sums[low]) / (high - low)
    return means
