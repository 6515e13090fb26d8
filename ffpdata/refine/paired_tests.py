"""Statistical tests on paired differences: the same items under two models, several items per source.

Edits of one source are not independent: a clip that is easy for a model is easy in all of its edits. So the differences
of a source are averaged, every source counts once, and both tests resample sources.
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
"""Numbers that a test resamples at once: 32 MB."""


@dataclass(frozen=True)
class Resampling:
    """How a test resamples.

    Attributes:
        resamples: number of resamples of a test or an interval. Where all changes of sign are fewer, all are tried.
        seed: of the resamples.
    """

    resamples: int
    seed: int


@dataclass(frozen=True)
class PairedDifferences:
    """One measure of the same items under two models, averaged per source.

    Attributes:
        items: number of items.
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

    def p_value(self, side: Side, resampling: Resampling) -> float:
        """Return the probability of a mean difference at least this far to `side` if the models were equal.

        Permutation test: for equal models, each source's difference is as likely to have the other sign. With n sources
        it cannot be below 2**-n.
        """
        from scipy.stats import permutation_test

        if not self.differences.any():
            return 1.0
        if len(self.differences) == 1:  # two signs, for which SciPy has no exact test
            one = float(self.differences[0])
            on_side = {"greater": one > 0, "less": one < 0, "two-sided": False}[side]
            return 0.5 if on_side else 1.0
        result = permutation_test(
            (self.differences,),
            np.mean,
            permutation_type="samples",
            vectorized=True,
            alternative=side,
            n_resamples=resampling.resamples,
            batch=self._batch,
            rng=np.random.default_rng(resampling.seed),
        )
        return float(result.pvalue)

    def interval(self, confidence: float, resampling: Resampling) -> tuple[float, float] | None:
        """Return the percentile bootstrap interval of the mean difference; None for a single source."""
        from scipy.stats import bootstrap

        if len(self.differences) == 1:
            return None
        if not self.differences.any():
            return 0.0, 0.0
        interval = bootstrap(
            (self.differences,),
            np.mean,
            vectorized=True,
            method="percentile",
            confidence_level=confidence,
            n_resamples=resampling.resamples,
            batch=self._batch,
            rng=np.random.default_rng(resampling.seed),
        ).confidence_interval
        return float(interval.low), float(interval.high)

    @property
    def _batch(self) -> int:
        return max(1, CELLS // len(self.differences))


def by_source(values: Iterable[tuple[str, float, float]]) -> PairedDifferences | None:
    """Average the items of each source; the result does not depend on their order.

    Args:
        values: per item its source, the value before and the value after.

    Returns:
        The differences per source; None where there are no items.
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
    """Return per source the mean of part 0 or 1 of its pairs, or for None that of their differences."""
    return [
        fsum(pair[1] - pair[0] if part is None else pair[part] for pair in groups[name]) / len(groups[name])
        for name in sorted(groups)
    ]
