"""Splits without leakage: a source, and every source that looks like it, lies in exactly one split.

A group's split follows from a hash of its name and the seed alone, so a dataset that grows moves nobody. The one
exception: where a new source looks like an old one, or joins two groups that were apart, they are one group under the
smallest of their source ids, and what had another name may move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ffpdata.core.keys import digest
from ffpdata.curate.dedup import LookAlikes, codes, components


def source_groups(sources: Sequence[str], alike: LookAlikes) -> list[str]:
    """Name of each pair's group of sources: the smallest source id among those that look alike.

    Args:
        sources: source id of every pair.
        alike: which pairs' source videos look alike.
    """
    code = codes(sources)
    labels = components(int(code.max(initial=-1)) + 1, code[alike.i], code[alike.j])[code]
    names: dict[int, str] = {}
    for label, source in zip(labels.tolist(), sources, strict=True):
        names[label] = min(source, names.get(label, source))
    return [names[label] for label in labels.tolist()]


def split_of(group: str, fractions: Mapping[str, float], seed: int) -> str:
    """Split of a group: its hash, as a number in 0..1, on the scale of the cumulated fractions.

    Args:
        group: name of the group.
        fractions: split name to fraction, in order; they count relative to their sum.
        seed: another seed gives another assignment.
    """
    reached = np.cumsum(list(fractions.values()))
    spot = int(digest("split", seed, group)[:12], 16) / 16**12 * reached[-1]
    return list(fractions)[int(np.searchsorted(reached, spot, side="right"))]
