"""Agreement of reviewers on the pairs that both of them judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from ffpdata.curate.verdicts import ACCEPT, REJECT, Verdict


@dataclass(frozen=True)
class Agreement:
    """Agreement of two reviewers.

    Attributes:
        reviewers: their names, sorted.
        pairs: number of pairs that both accepted or rejected.
        same: fraction of these on which they agree, 0..1.
        kappa: Cohen's kappa: 1 is full agreement, 0 what chance would give; None where it is undefined, because both
            gave one and the same verdict on all pairs.
    """

    reviewers: tuple[str, str]
    pairs: int
    same: float
    kappa: float | None


def cohen_kappa(judged: Sequence[tuple[bool, bool]]) -> float | None:
    """Return the agreement of two reviewers beyond chance (Cohen 1960); None where chance agreement is 1.

    Args:
        judged: per pair whether the first accepted it, and whether the second did.
    """
    total = len(judged)
    if not total:
        return None
    first, second = (sum(votes) / total for votes in zip(*judged, strict=True))
    chance = first * second + (1 - first) * (1 - second)
    observed = sum(a == b for a, b in judged) / total
    return (observed - chance) / (1 - chance) if chance < 1 else None


def agreements(verdicts: Iterable[Mapping[str, Verdict]]) -> list[Agreement]:
    """Return the agreement of every two reviewers with pairs in common, those with the most pairs first.

    Args:
        verdicts: per pair, reviewer to verdict.
    """
    judged: dict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)
    for by_reviewer in verdicts:
        votes = sorted((name, v.verdict == ACCEPT) for name, v in by_reviewer.items() if v.verdict in (ACCEPT, REJECT))
        for (one, a), (other, b) in combinations(votes, 2):
            judged[one, other].append((a, b))
    found = [
        Agreement(names, len(both), sum(a == b for a, b in both) / len(both), cohen_kappa(both))
        for names, both in judged.items()
    ]
    return sorted(found, key=lambda agreement: (-agreement.pairs, agreement.reviewers))
