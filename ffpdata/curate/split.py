"""Splits without leakage: a source and every source that looks like it are in exactly one split.

The split of a group depends on a hash of its name and on the seed alone, so a growing dataset moves no group. The one
exception: a new source that looks like an old one, or like two groups, joins them to one group under the smallest of
their source ids, and those that had another name may move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ffpdata.core.keys import digest
from ffpdata.curate.dedup import LookAlikes, connected_components, number_values


def source_groups(
    sources: Sequence[str],
    alike: LookAlikes,
    before: Mapping[str, str] | None = None,
    tied: Sequence[str | None] = (),
) -> list[str]:
    """Return the name of each pair's group of sources: the smallest source id among those that look alike.

    Args:
        sources: source id of every pair.
        alike: which pairs' source videos look alike.
        before: names of the groups of some sources from when they held a source that was taken down since: it counts
            as one of them still, so that nobody changes the split.
        tied: another value per pair, as its style image; pairs with the same one are in one group, too.
    """
    before = before or {}
    first: dict[str, int] = {}
    ties = [(first.setdefault(value, place), place) for place, value in enumerate(tied) if value is not None]
    one, other = (np.array([tie[end] for tie in ties], np.int64) for end in range(2))
    numbers = number_values(sources)
    count = int(numbers.max(initial=-1)) + 1
    labels = connected_components(count, numbers[np.append(alike.i, one)], numbers[np.append(alike.j, other)])[numbers]
    names: dict[int, str] = {}
    for label, source in zip(labels.tolist(), sources, strict=True):
        names[label] = min(source, before.get(source, source), names.get(label, source))
    return [names[label] for label in labels.tolist()]


def split_of(group: str, fractions: Mapping[str, float], seed: int) -> str:
    """Return the split of a group: its hash as a number in 0..1, placed among the cumulated fractions.

    Args:
        group: name of the group.
        fractions: split name to fraction, in order; relative to their sum.
        seed: another seed gives another assignment.
    """
    ends = np.cumsum(list(fractions.values()))
    spot = int(digest("split", seed, group)[:12], 16) / 16**12 * ends[-1]
    return list(fractions)[int(np.searchsorted(ends, spot, side="right"))]
