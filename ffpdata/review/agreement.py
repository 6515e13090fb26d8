"""How far two reviewers agree on the pairs that both judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from ffpdata.curate.verdicts import ACCEPT, REJECT, Verdict


@dataclass(frozen=True)
class Agreement:
    """Of two reviewers.

    Attributes:
        reviewers: both, sorted.
        pairs: how many both accepted or rejected.
        same: fraction on which they agree.
        kappa: Cohen's kappa: 1 full agreement, 0 no more than chance would give; None where it is undefined because
            both always said the same.
    """

    reviewers: tuple[str, str]
    pairs: int
    same: float
    kappa: float | None


def cohen_kappa(judged: Sequence[tuple[bool, bool]]) -> float | None:
    """Agreement of two judges beyond chance (Cohen 1960); None where chance alone explains all of it."""
    total = len(judged)
    if not total:
        return None
    first, second = (sum(judges) / total for judges in zip(*judged, strict=True))
    chance = first * second + (1 - first) * (1 - second)
    observed = sum(a == b for a, b in judged) / total
    return (observed - chance) / (1 - chance) if chance < 1 else None


def agreements(verdicts: Iterable[Mapping[str, Verdict]]) -> list[Agreement]:
    """Compare every two reviewers who judged the same pairs, those with the most pairs first.

    Args:
        verdicts: per pair, reviewer to verdict.
    """
    judged: dict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)
    for given in verdicts:
        told = sorted((name, v.verdict == ACCEPT) for name, v in given.items() if v.verdict in (ACCEPT, REJECT))
        for (one, a), (other, b) in combinations(told, 2):
            judged[one, other].append((a, b))
    found = [
        Agreement(names, len(both), sum(a == b for a, b in both) / len(both), cohen_kappa(both))
        for names, both in judged.items()
    ]
    return sorted(found, key=lambda agreement: (-agreement.pairs, agreement.reviewers))
