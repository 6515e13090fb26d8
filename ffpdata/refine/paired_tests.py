"""Tests on paired differences whose members share sources: what two models made of the same items.

Edits of one source are not independent: a clip that one model finds easy is easy in all of its edits. So their
differences are averaged, every source counts once, and both tests draw over sources.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Side = Literal["greater", "less", "two-sided"]

CELLS = 4_000_000
"""Numbers that a test draws at once: 32 MB."""


@dataclass(frozen=True)
class Resampling:
    """How a test draws: the same ones every time.

    Attributes:
        resamples: how many, for a test and for an interval. All changes of sign are tried where they are fewer.
        seed: of the draws.
    """

    resamples: int
    seed: int


@dataclass(frozen=True)
class PairedDifferences:
    """One number of the same items under two models, averaged per source.

    Attributes:
        items: how many items there are.
        before: mean over the sources.
        after: mean over the sources.
        differences: after less before, float64 (sources,), in the order of the sources' names.
    """

    items: int
    before: float
    after: float
    differences: Floats

    @property
    def difference(self) -> float:
        """Mean difference over the sources."""
        return fsum(self.differences) / len(self.differences)

    def p_value(self, side: Side, draws: Resampling) -> float:
        """Return how likely a mean difference at least this much on that side is if the models were alike.

        Permutation test: were they alike, each source's difference could as well have had the other sign. With n
        sources it cannot be below 2**-n.
        """
        from scipy.stats import permutation_test

        if not self.differences.any():
            return 1.0
        if len(self.differences) == 1:  # two ways to set its sign, which SciPy does not count out
            one = float(self.differences[0])
            far = {"greater": one > 0, "less": one < 0, "two-sided": False}[side]
            return 0.5 if far else 1.0
        found = permutation_test(
            (self.differences,),
            np.mean,
            permutation_type="samples",
            vectorized=True,
            alternative=side,
            n_resamples=draws.resamples,
            batch=self._batch,
            rng=np.random.default_rng(draws.seed),
        )
        return float(found.pvalue)

    def interval(self, confidence: float, draws: Resampling) -> tuple[float, float] | None:
        """Percentile bootstrap of the mean difference over the sources; None with a single one."""
        from scipy.stats import bootstrap

        if len(self.differences) == 1:
            return None
        if not self.differences.any():
            return 0.0, 0.0
        found = bootstrap(
            (self.differences,),
            np.mean,
            vectorized=True,
            method="percentile",
            confidence_level=confidence,
            n_resamples=draws.resamples,
            batch=self._batch,
            rng=np.random.default_rng(draws.seed),
        ).confidence_interval
        return float(found.low), float(found.high)

    @property
    def _batch(self) -> int:
        return max(1, CELLS // len(self.differences))


def by_source(values: Iterable[tuple[str, float, float]]) -> PairedDifferences | None:
    """Average what items share a source; the order in which they come makes no difference.

    Args:
        values: per item its source, the number before and the number after.

    Returns:
        None where there are no items.
    """
    groups: dict[str, list[tuple[float, float]]] = {}
    for source, before, after in values:
        groups.setdefault(source, []).append((before, after))
    if not groups:
        return None
    olds, news, differences = (_means(groups, part) for part in (0, 1, None))
    items = sum(map(len, groups.values()))
    return PairedDifferences(items, fsum(olds) / len(olds), fsum(news) / len(news), np.array(differences))


def _means(groups: Mapping[str, list[tuple[float, float]]], part: int | None) -> list[float]:
    """Per source the mean of one part of its pairs, or of their differences."""
    return [
        fsum(pair[1] - pair[0] if part is None else pair[part] for pair in groups[name]) / len(groups[name])
        for name in sorted(groups)
    ]
