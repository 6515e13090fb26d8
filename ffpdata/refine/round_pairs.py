"""Which removals of a round are shown: where the new model gained most, where it lost most, and some by chance."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from ffpdata.core.keys import digest
from ffpdata.refine.compared_measures import acceptance, passed, screen_score
from ffpdata.refine.removal_results import RemovalResult, RemovalResults

IMPROVED, WORSE, CHANCE = GROUPS = ("improved", "became worse", "by chance")

EACH = 6
"""Removals of each group; each adds about 0.4 MB to the page."""

SEED = 0
"""Of what is shown by chance: the same every time."""

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
    """Order removals by what they gained: first what reviewers say, then the gates, then the screening score."""
    return (
        _rise(acceptance(before), acceptance(after)),
        _rise(passed(before), passed(after)),
        _rise(screen_score(before), screen_score(after)),
    )


def _rise(before: float | None, after: float | None) -> float:
    return 0.0 if before is None or after is None else after - before


def choose(before: RemovalResults, after: RemovalResults, each: int = EACH) -> list[ComparedRemoval]:
    """Choose removals that have a source and a target under both models, of as many sources as there are.

    Args:
        before: under the old model.
        after: under the new one.
        each: at most so many of each group.
    """
    new = {outcome.item_id: outcome for outcome in after}
    pairs = [
        (gain(old, new[old.item_id]), old, new[old.item_id])
        for old in before
        if old.item_id in new and SOURCE in old.files and TARGET in old.files and TARGET in new[old.item_id].files
    ]
    level: Gain = (0, 0, 0)
    by_gain = sorted(pairs, key=lambda pair: (pair[0], pair[1].item_id))
    improved = _spread([pair for pair in reversed(by_gain) if pair[0] > level], each)
    worse = _spread([pair for pair in by_gain if pair[0] < level], each)
    taken = {old.item_id for _, old, _ in (*improved, *worse)}
    rest = sorted((p for p in pairs if p[1].item_id not in taken), key=lambda pair: digest(SEED, pair[1].item_id))
    groups = zip(GROUPS, (improved, worse, _spread(rest, each)), strict=True)
    return [ComparedRemoval(group, old, now) for group, chosen in groups for _, old, now in chosen]


_Ranked = tuple[Gain, RemovalResult, RemovalResult]


def _spread(ranked: Iterable[_Ranked], most: int) -> list[_Ranked]:
    """The first ones, each source's second only after every source's first."""
    turns: dict[str, list[_Ranked]] = {}
    for pair in ranked:
        turns.setdefault(pair[1].source_id, []).append(pair)
    rounds = max(map(len, turns.values()), default=0)
    return list(chain.from_iterable([own[n] for own in turns.values() if n < len(own)] for n in range(rounds)))[:most]
