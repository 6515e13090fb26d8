"""Charts of a round: a bar per measure, and how many removals ended where."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ffpdata.refine.compared_measures import measure
from ffpdata.refine.comparison import MeasureChange
from ffpdata.refine.removal_results import OK, RemovalResults

PASSED = "passed all gates"


@dataclass(frozen=True)
class IntervalBar:
    """A difference and its interval, as x from 0 to 100: no difference is at 50, better is to the right.

    Attributes:
        middle: the difference.
        low, high: the interval; the difference itself where there is none.
        limit: how far the measure may become worse; None where it is not guarded.
    """

    middle: float
    low: float
    high: float
    limit: float | None


def interval_bar(change: MeasureChange) -> IntervalBar:
    """Scale a change so that its interval and its limit fit."""
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
    """How many removals ended in one way, under both models.

    Attributes:
        stage: where they ended; empty for those that passed.
        reason: why.
        status: `ok`, `rejected` or `failed`.
        before: number under the old model.
        after: number under the new one.
    """

    stage: str
    reason: str
    status: str
    before: int
    after: int


def outcome_counts(before: RemovalResults, after: RemovalResults) -> list[OutcomeCounts]:
    """Count how the removals ended: those that passed first, then by how frequent the reason is."""
    counts = [
        Counter(("", PASSED, OK) if o.status == OK else (o.stage, o.reason or "unknown", o.status) for o in outcomes)
        for outcomes in (before, after)
    ]
    ends = counts[0].keys() | counts[1].keys()
    found = [OutcomeCounts(*end, before=counts[0][end], after=counts[1][end]) for end in ends]
    return sorted(found, key=lambda f: (f.status != OK, -max(f.before, f.after), f.stage, f.reason))
