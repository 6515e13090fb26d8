"""Chooses the removals that a round's report shows: the most improved, those that became worst, and a random sample."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from ffpdata.core.keys import digest
from ffpdata.refine.compared_measures import acceptance, passed, screen_score
from ffpdata.refine.removal_results import RemovalResult, RemovalResults

IMPROVED, WORSE, CHANCE = GROUPS = ("improved", "became worse", "by chance")

EACH = 6
"""Most removals of each group; each adds about 0.4 MB to the page."""

SEED = 0
"""Seed of the random sample: the same every time."""

SOURCE, TARGET = "source_video", "target_video"


@dataclass(frozen=True)
class ComparedRemoval:
    """One removal under both models.

    Attributes:
        group: one of `GROUPS`.
        before: under the old model.
        after: under the new one.
    """

    group: str
    before: RemovalResult
    after: RemovalResult


Gain = tuple[float, float, float]


def gain(before: RemovalResult, after: RemovalResult) -> Gain:
    """Return how much a removal improved, to sort by: reviewers' acceptance, passing all stages, screening score."""
    return (
        _increase(acceptance(before), acceptance(after)),
        _increase(passed(before), passed(after)),
        _increase(screen_score(before), screen_score(after)),
    )


def _increase(before: float | None, after: float | None) -> float:
    return 0.0 if before is None or after is None else after - before


def choose_removals(before: RemovalResults, after: RemovalResults, each: int = EACH) -> list[ComparedRemoval]:
    """Choose removals that have a source and a target under both models, from as many sources as possible.

    Args:
        before: the old model's results.
        after: the new model's.
        each: most removals of each group.
    """
    new = {result.item_id: result for result in after}
    pairs = [
        (gain(old, new[old.item_id]), old, new[old.item_id])
        for old in before
        if old.item_id in new and SOURCE in old.files and TARGET in old.files and TARGET in new[old.item_id].files
    ]
    unchanged: Gain = (0, 0, 0)
    by_gain = sorted(pairs, key=lambda pair: (pair[0], pair[1].item_id))
    improved = _spread([pair for pair in reversed(by_gain) if pair[0] > unchanged], each)
    worse = _spread([pair for pair in by_gain if pair[0] < unchanged], each)
    shown = {old.item_id for _, old, _ in (*improved, *worse)}
    rest = sorted((p for p in pairs if p[1].item_id not in shown), key=lambda pair: digest(SEED, pair[1].item_id))
    groups = zip(GROUPS, (improved, worse, _spread(rest, each)), strict=True)
    return [ComparedRemoval(group, old, now) for group, chosen in groups for _, old, now in chosen]


_Ranked = tuple[Gain, RemovalResult, RemovalResult]


def _spread(ranked: Iterable[_Ranked], most: int) -> list[_Ranked]:
    """Return the first `most`, taking sources in turn: a source's second comes after every source's first."""
    by_source: dict[str, list[_Ranked]] = {}
    for pair in ranked:
        by_source.setdefault(pair[1].source_id, []).append(pair)
    rounds = max(map(len, by_source.values()), default=0)
    return list(chain.from_iterable([own[n] for own in by_source.values() if n < len(own)] for n in range(rounds)))[
        :most
    ]
