"""Is a new model better? Two models' removals of the same items, compared in pairs.

Acceptance by reviewers decides where enough pairs were judged under both models, else the screening score does. The
model is better where that rose by more than chance explains and nothing that is guarded became worse.
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
    names,
    value,
)
from ffpdata.refine.comparison import Comparison, MeasureChange, count
from ffpdata.refine.paired_tests import PairedDifferences, Resampling, Side, by_source
from ffpdata.refine.removal_results import RemovalResult, RemovalResults

__all__ = ["CompareSettings", "Comparison", "MeasureChange", "compare"]

TARGET = "target_video"

SIDES: dict[int, Side] = {1: "greater", -1: "less", 0: "two-sided"}
"""Where the test looks, by which side is better."""

Pairs = Sequence[tuple[RemovalResult, RemovalResult]]
"""The same items under the old model and the new one."""


class CompareSettings(BaseModel):
    """What makes a round better."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Of every decision and interval: an equal model is taken for a better one in 1 - confidence of the rounds."""
    pairs: int = Field(default=30, ge=0)
    """Pairs with a verdict under both models from which on acceptance decides; 0: never, screening scores decide alone.
    30 pairs of as many sources show a rise from 50% to 80% in seven rounds of ten, one to 70% in four."""
    worse: dict[str, float] = {ACCEPTANCE: 0.0, YIELD: 0.0, "psnr_outside": 0.5, "flicker": 0.1, "colour_drift": 0.5}
    """What is guarded: a number to how much worse it may become on average, in its own unit (0.05 of a share are 5
    points). A round is not better where one became worse by more than that, and by more than chance explains. The
    limits lie below what an eye sees: 0.5 dB of 28 to 40, 0.5 of the 2.3 that are just noticed in Lab, a thirtieth of
    the flicker that is rejected."""
    resamples: int = Field(default=4999, ge=99)
    """Draws of every test and interval; fewer are quicker and less exact."""
    seed: int = Field(default=0, ge=0)
    """Of the draws: the same outcomes are always compared alike."""

    @field_validator("worse")
    @classmethod
    def _guards(cls, limits: dict[str, float]) -> dict[str, float]:
        sided = [name for name, known in MEASURES.items() if known.better]
        for name, limit in limits.items():
            if name not in sided:
                raise ValueError(f"{name!r} has no side that is worse, or is not known{nearest(name, sided)}")
            if not 0 <= limit < float("inf"):
                raise ValueError(f"{name} may become worse by {limit}: give a number that is at least 0")
        return limits

    @property
    def alpha(self) -> float:
        """Chance that is taken for none: below it a difference counts."""
        return round(1 - self.confidence, 12)


def compare(before: RemovalResults, after: RemovalResults, settings: CompareSettings | None = None) -> Comparison:
    """Compare what two models made of the same items.

    Args:
        before: under the old model, in any order.
        after: under the new one. Items that are not in both are left out.
        settings: the usual ones where they are left out.

    Raises:
        ValueError: an item is there twice under one model.
    """
    settings = settings or CompareSettings()
    old, new = _by_item(before), _by_item(after)
    pairs = [(old[item], new[item]) for item in sorted(old.keys() & new.keys())]
    paired: dict[str, PairedDifferences] = {}
    for name in names(outcome for pair in pairs for outcome in pair):
        if made := _paired(name, pairs):
            paired[name] = made
    changes = {name: _change(name, made, settings) for name, made in paired.items()}
    judged = changes[ACCEPTANCE].items if ACCEPTANCE in changes else 0
    decided_by = ACCEPTANCE if settings.pairs and judged >= settings.pairs else SCREEN_SCORE
    broken = [change for change in changes.values() if change.broken and change.name != decided_by]
    better = decided_by in changes and changes[decided_by].verdict == "better" and not broken
    why = _why_not(decided_by, pairs, paired, changes, settings)
    if broken:
        spoilt = " and ".join(map(_spoilt, broken))
        why = f"{why}, and {spoilt}" if why else f"{changes[decided_by].told()}, but {spoilt}"
    why = f"Not better: {why}" if why else f"Better: {changes[decided_by].told()}, and no guard became worse"
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


def _by_item(outcomes: RemovalResults) -> dict[str, RemovalResult]:
    found: dict[str, RemovalResult] = {}
    for outcome in outcomes:
        if outcome.item_id in found:
            raise ValueError(f"{outcome.item_id} is there twice under one model: give every item once")
        found[outcome.item_id] = outcome
    return found


def _paired(name: str, pairs: Pairs) -> PairedDifferences | None:
    """One number of the items that have it under both models."""
    found = ((old.source_id, value(name, old), value(name, new)) for old, new in pairs)
    return by_source((source, was, now) for source, was, now in found if was is not None and now is not None)


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


def _missing(pairs: Pairs, judged: int, wanted: int) -> int:
    """Pairs to judge until acceptance decides; 0 where it does, or never can."""
    waiting = sum(acceptance(old) is not None and acceptance(new) is None and TARGET in new.files for old, new in pairs)
    return wanted - judged if judged < wanted <= judged + waiting else 0


def _why_not(
    name: str,
    pairs: Pairs,
    paired: dict[str, PairedDifferences],
    changes: dict[str, MeasureChange],
    settings: CompareSettings,
) -> str:
    """Why the deciding number does not show a better model; empty where it does."""
    if not pairs:
        return "there is no removal that both models made"
    if name not in changes:
        return f"none of the {len(pairs)} removals has a {measure(name).words} under both models"
    change = changes[name]
    if change.verdict == "better":
        return ""
    told, moved = change.told(), int(np.count_nonzero(paired[name].differences))
    if change.difference <= 0:
        return told
    # With n sources that differ, chance alone gives them all the better sign once in 2**n.
    least = floor(log2(1 / settings.alpha)) + 1
    if moved < least:
        return f"{told}; it differs in {count(moved, 'source')}, too few to tell from chance: {least} are needed"
    return f"{told}, which chance may explain: p must be below {settings.alpha:g}"


def _spoilt(change: MeasureChange) -> str:
    known = measure(change.name)
    allowed = known.change(change.limit, sign=False) if change.limit else "nothing"
    way = "rose" if change.difference > 0 else "fell"
    return f"{known.words} {way} by {known.change(abs(change.difference), sign=False)} ({allowed} allowed)"
