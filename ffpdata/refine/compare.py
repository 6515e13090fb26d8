"""Decides whether a new model is better: two models' removals of the same items, compared in pairs.

Acceptance by reviewers decides where enough pairs were judged under both models, otherwise the screening score. The new
model is better where that measure rose significantly and no guarded measure became worse by more than its limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log2

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from ffpdata.core.errors import nearest
from ffpdata.refine.compared_measures import (
    ACCEPTANCE,
    MEASURES,
    SCREEN_SCORE,
    YIELD,
    acceptance,
    measure,
    measure_names,
    measured_value,
)
from ffpdata.refine.comparison import Comparison, MeasureChange, count
from ffpdata.refine.paired_tests import PairedDifferences, Resampling, Side, by_source
from ffpdata.refine.removal_results import RemovalResult, RemovalResults

__all__ = ["CompareSettings", "Comparison", "MeasureChange", "compare"]

TARGET = "target_video"

SIDES: dict[int, Side] = {1: "greater", -1: "less", 0: "two-sided"}
"""Alternative of the test, by which side of the measure is better."""

Pairs = Sequence[tuple[RemovalResult, RemovalResult]]
"""The same items under the old model and the new one."""


class CompareSettings(BaseModel):
    """What makes a new model better."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence of every decision and interval: an equal model counts as better in 1 - confidence of the rounds."""
    pairs: int = Field(default=30, ge=0)
    """Pairs with a verdict under both models that acceptance needs to decide; 0: the screening score always decides.
    30 pairs of 30 sources show a rise from 50% to 80% in seven rounds of ten, one to 70% in four."""
    worse: dict[str, float] = {ACCEPTANCE: 0.0, YIELD: 0.0, "psnr_outside": 0.5, "flicker": 0.1, "colour_drift": 0.5}
    """Guarded measures, each with how much worse its mean may become, in its own unit (a share of 0.05 is 5 points). A
    round is not better where one became worse by more than that, and significantly. The limits are below what is
    visible: 0.5 dB of 28 to 40, 0.5 of the 2.3 that are just noticed in Lab, a thirtieth of the flicker that is
    rejected."""
    resamples: int = Field(default=4999, ge=99)
    """Resamples of every test and interval; fewer are faster and less exact."""
    seed: int = Field(default=0, ge=0)
    """Seed of the resamples: the same results always give the same comparison."""

    @field_validator("worse")
    @classmethod
    def _check_worse(cls, limits: dict[str, float]) -> dict[str, float]:
        sided = [name for name, entry in MEASURES.items() if entry.better]
        for name, limit in limits.items():
            if name not in sided:
                raise ValueError(f"{name!r} has no side that is worse, or is not known{nearest(name, sided)}")
            if not 0 <= limit < float("inf"):
                raise ValueError(f"{name} may become worse by {limit}: give a number that is at least 0")
        return limits

    @property
    def alpha(self) -> float:
        """Significance level: a difference with a p below it counts."""
        return round(1 - self.confidence, 12)


def compare(before: RemovalResults, after: RemovalResults, settings: CompareSettings | None = None) -> Comparison:
    """Compare two models' removals of the same items.

    Args:
        before: the old model's results, in any order.
        after: the new model's. Items that are not in both are left out.
        settings: the defaults where it is None.

    Raises:
        ValueError: an item occurs twice under one model.
    """
    settings = settings or CompareSettings()
    old, new = _by_item(before), _by_item(after)
    pairs = [(old[item], new[item]) for item in sorted(old.keys() & new.keys())]
    paired: dict[str, PairedDifferences] = {}
    for name in measure_names(result for pair in pairs for result in pair):
        if differences := _paired(name, pairs):
            paired[name] = differences
    changes = {name: _change(name, differences, settings) for name, differences in paired.items()}
    judged = changes[ACCEPTANCE].items if ACCEPTANCE in changes else 0
    decided_by = ACCEPTANCE if settings.pairs and judged >= settings.pairs else SCREEN_SCORE
    broken = [change for change in changes.values() if change.broken and change.name != decided_by]
    better = decided_by in changes and changes[decided_by].verdict == "better" and not broken
    why = _reason_not_better(decided_by, pairs, paired, changes, settings)
    if broken:
        guards = " and ".join(map(_broken_clause, broken))
        why = f"{why}, and {guards}" if why else f"{changes[decided_by].clause()}, but {guards}"
    why = f"Not better: {why}" if why else f"Better: {changes[decided_by].clause()}, and no guard became worse"
    if pairs and decided_by != ACCEPTANCE and settings.pairs:
        why += f"; by the screening alone, for only {judged} of {settings.pairs} pairs were judged under both models"
    return Comparison(
        changes=tuple(changes.values()),
        better=better,
        decided_by=decided_by,
        why=f"{why}.",
        missing=_missing(pairs, judged, settings.pairs),
        left_out=len(old.keys() ^ new.keys()),
    )


def _by_item(results: RemovalResults) -> dict[str, RemovalResult]:
    by_item: dict[str, RemovalResult] = {}
    for result in results:
        if result.item_id in by_item:
            raise ValueError(f"{result.item_id} is there twice under one model: give every item once")
        by_item[result.item_id] = result
    return by_item


def _paired(name: str, pairs: Pairs) -> PairedDifferences | None:
    """Return one measure of the items that have it under both models; None where no item has."""
    values = ((old.source_id, measured_value(name, old), measured_value(name, new)) for old, new in pairs)
    return by_source((source, was, now) for source, was, now in values if was is not None and now is not None)


def _change(name: str, paired: PairedDifferences, settings: CompareSettings) -> MeasureChange:
    draws, side = Resampling(settings.resamples, settings.seed), measure(name).better
    p = paired.p_value(SIDES[side], draws)
    gain, verdict, limit = side * paired.difference, "", settings.worse.get(name)
    if gain > 0 and p < settings.alpha:
        verdict = "better"
    elif gain < 0 and paired.p_value(SIDES[-side], draws) < settings.alpha:
        verdict = "worse"
    return MeasureChange(
        name=name,
        items=paired.items,
        sources=len(paired.differences),
        before=paired.before,
        after=paired.after,
        difference=paired.difference,
        interval=paired.interval(settings.confidence, draws),
        p=p,
        verdict=verdict,
        limit=limit,
        broken=verdict == "worse" and limit is not None and -gain > limit,
    )


def _missing(pairs: Pairs, judged: int, needed: int) -> int:
    """Return how many pairs must be judged until acceptance decides; 0 where it does, or never can."""
    unjudged = sum(
        acceptance(old) is not None and acceptance(new) is None and TARGET in new.files for old, new in pairs
    )
    return needed - judged if judged < needed <= judged + unjudged else 0


def _reason_not_better(
    name: str,
    pairs: Pairs,
    paired: dict[str, PairedDifferences],
    changes: dict[str, MeasureChange],
    settings: CompareSettings,
) -> str:
    """Return why the deciding measure does not show a better model; empty where it does."""
    if not pairs:
        return "there is no removal that both models made"
    if name not in changes:
        return f"none of the {len(pairs)} removals has a {measure(name).words} under both models"
    change = changes[name]
    if change.verdict == "better":
        return ""
    clause, moved = change.clause(), int(np.count_nonzero(paired[name].differences))
    if change.difference <= 0:
        return clause
    # With n sources that differ, all have the better sign by chance with probability 2**-n.
    least = floor(log2(1 / settings.alpha)) + 1
    if moved < least:
        return f"{clause}; it differs in {count(moved, 'source')}, too few to tell from chance: {least} are needed"
    return f"{clause}, which chance may explain: p must be below {settings.alpha:g}"


def _broken_clause(change: MeasureChange) -> str:
    """Say by how much a guarded measure became worse."""
    printed = measure(change.name)
    allowed = printed.change(change.limit, sign=False) if change.limit else "nothing"
    way = "rose" if change.difference > 0 else "fell"
    return f"{printed.words} {way} by {printed.change(abs(change.difference), sign=False)} ({allowed} allowed)"
