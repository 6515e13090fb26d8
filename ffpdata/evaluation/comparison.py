"""Two methods on the clips that both have: is one better, by how much, and how many clips more would settle it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa

from ffpdata.core.errors import UsageError, nearest
from ffpdata.evaluation.statistics import CELLS, LEAST, SEED, means_of, scores_of
from ffpdata.refine.paired_tests import PairedDifferences, Resampling

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 9999
EXACT = 13
"""Most clips of which all 2^n signs are tried instead of resamples."""

LEVEL = 0.05
POWER = 0.8
"""Chance to find a difference of the size seen, with the number of clips that `more` names (Cohen's convention)."""


@dataclass(frozen=True)
class Comparison:
    """One metric of two methods.

    Attributes:
        a, b, metric: what was compared.
        n: clips that have the number under both; all but the counts of missing ones are of these.
        only_a, only_b, neither: clips that lack the number under the other method, or under both.
        mean_a, mean_b, difference: means, and a less b; None where n is 0.
        low, high: percentile bootstrap interval of the difference over clips; None for fewer than two clips.
        p: two-sided sign-flip test: the chance of a mean difference at least this far from 0 if the methods were alike.
        wilcoxon: p of Wilcoxon's signed-rank test, to which outliers matter less; None where it is not defined.
        effect: mean difference in standard deviations of the differences (Cohen's d of pairs); None where they are all
            alike.
        more: further clips after which a difference of this size would be found at `LEVEL` with a chance of `POWER`; 0
            where it is found already, None where no number would do.
        adjusted: p after Holm, over all comparisons that were made together; p itself for one alone.
    """

    a: str
    b: str
    metric: str
    n: int
    only_a: int
    only_b: int
    neither: int
    mean_a: float | None = None
    mean_b: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    wilcoxon: float | None = None
    effect: float | None = None
    more: int | None = None
    adjusted: float | None = None

    @property
    def found(self) -> Literal["higher", "lower", ""]:
        """Whether a is higher or lower than b beyond chance, by the adjusted p."""
        if self.adjusted is None or self.adjusted >= LEVEL or not self.difference:
            return ""
        return "higher" if self.difference > 0 else "lower"


def compare(
    table: pa.Table, a: str, b: str, metric: str, *, resamples: int = RESAMPLES, seed: int = SEED
) -> Comparison:
    """Compare one metric of two methods. Each clip counts once; edits of the same source count as clips of their own.

    Raises:
        UsageError: a method or the metric is not in the table.
    """
    return compare_all(table, [(a, b)], [metric], resamples=resamples, seed=seed)[0]


def compare_all(
    table: pa.Table,
    pairs: Sequence[tuple[str, str]],
    metrics: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Comparison]:
    """Compare every metric of every pair, p adjusted over all of them; more signs are tried where the tests are many.

    Raises:
        UsageError: as `compare`.
    """
    scores = scores_of(table, metrics)
    for name in [name for pair in pairs for name in pair]:
        if name not in scores.methods:
            raise UsageError(f"no method {name!r} in the results{nearest(name, scores.methods)}")
    at = {name: number for number, name in enumerate(scores.methods)}
    differences = np.concatenate(
        [np.empty((len(scores.items), 0)), *(scores.values[at[a]] - scores.values[at[b]] for a, b in pairs)], axis=1
    )
    means = means_of(list(differences.T), resamples=resamples, seed=seed)
    # The least p of a test is 1 / (flips + 1): with fewer of them nothing could be found among so many tests.
    ps = _sign_flips(differences, max(resamples, math.ceil(2 * differences.shape[1] / LEVEL)), seed)
    made = []
    for number, ((a, b), (k, metric)) in enumerate(itertools.product(pairs, enumerate(metrics))):
        left, right = scores.values[at[a], :, k], scores.values[at[b], :, k]
        one, other = ~np.isnan(left), ~np.isnan(right)
        both = one & other
        n, only_a, only_b = int(both.sum()), int((one & ~other).sum()), int((other & ~one).sum())
        neither = len(scores.items) - n - only_a - only_b
        if not n:
            made.append(Comparison(a, b, metric, n, only_a, only_b, neither))
            continue
        known = differences[both, number]
        effect = _effect(known)
        made.append(
            Comparison(
                a,
                b,
                metric,
                n,
                only_a,
                only_b,
                neither,
                mean_a=float(left[both].mean()),
                mean_b=float(right[both].mean()),
                difference=means[number].mean,
                low=means[number].low,
                high=means[number].high,
                p=ps[number],
                wilcoxon=_wilcoxon(known),
                effect=effect,
                more=_more(known, effect, ps[number]),
            )
        )
    adjusted = iter(holm([one.p for one in made if one.p is not None]))
    return [one if one.p is None else _adjust(one, next(adjusted)) for one in made]


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust p values for being looked at together (Holm 1979): none of them is then found by number alone."""
    order = sorted(range(len(ps)), key=lambda number: ps[number])
    adjusted, worst = [0.0] * len(ps), 0.0
    for rank, number in enumerate(order):
        worst = max(worst, min(1.0, (len(ps) - rank) * ps[number]))
        adjusted[number] = worst
    return adjusted


def _adjust(one: Comparison, adjusted: float) -> Comparison:
    return Comparison(**vars(one) | {"adjusted": adjusted})


def _sign_flips(differences: Floats, resamples: int, seed: int) -> list[float]:
    """Two-sided p of every column of differences (clips, metrics), NaN where there is none.

    All columns share the signs: a missing difference is 0, which has no sign.
    """
    filled = np.nan_to_num(differences, nan=0.0)
    counts = (~np.isnan(differences)).sum(0)
    rng = np.random.default_rng([seed, len(filled)])
    # A millionth of the sum is noise of the arithmetic: flips that give the same sum are as far out.
    bounds = np.abs(filled.sum(0)) - 1e-6 * np.abs(filled).sum(0)
    as_far = np.zeros(filled.shape[1])
    step = max(1, CELLS // max(1, len(filled)))
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        signs = (rng.integers(0, 2, (count, len(filled)), dtype=np.int8) * 2 - 1).astype(np.float32)
        as_far += (np.abs(signs @ filled.astype(np.float32)) >= bounds).sum(0)
    ps = (as_far + 1) / (resamples + 1)
    found = []
    for k, n in enumerate(counts.tolist()):
        if n and n <= EXACT:
            column = differences[~np.isnan(differences[:, k]), k]
            exact = PairedDifferences(n, 0.0, 0.0, column).p_value("two-sided", Resampling(2**EXACT, seed))
            found.append(exact)
        else:
            found.append(float(ps[k]))
    return found


def _wilcoxon(differences: Floats) -> float | None:
    from scipy.stats import wilcoxon

    if len(differences) < LEAST or not differences.any():
        return None
    return float(wilcoxon(differences).pvalue)


def _effect(differences: Floats) -> float | None:
    """Cohen's d of pairs; None for one clip, or where the differences spread no more than arithmetic does."""
    if len(differences) == 1:
        return None
    spread = float(differences.std(ddof=1))
    return None if spread <= 1e-9 * float(np.abs(differences).max()) else float(differences.mean()) / spread


def _more(differences: Floats, effect: float | None, p: float) -> int | None:
    """Further clips by the normal approximation of the paired t test: n = ((z of level + z of power) / d)^2."""
    if p < LEVEL:
        return 0
    if effect is None or not effect:
        return None
    reach = NormalDist().inv_cdf(1 - LEVEL / 2) + NormalDist().inv_cdf(POWER)
    return max(1, math.ceil((reach / effect) ** 2) - len(differences))
