"""Means of an evaluation with their intervals, per method and metric, over all clips and by category.

A mean is taken over the clips that have the number; how many have none, and why, stands beside it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from ffpdata.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

RESAMPLES = 2000
SEED = 0
CONFIDENCE = 0.95

CELLS = 4_000_000
"""Weights of clips that are drawn at once: 32 MB."""

NO_METRIC = ("fps", "source_fps")
"""Columns of floats that measure no edit."""

ABSENT = "no row"
"""Why a method has no number of an item that other methods have rows of."""
NOT_MEASURED = "not measured"
"""Why a clip that is fine has no number."""


@dataclass(frozen=True)
class Mean:
    """A mean over clips.

    Attributes:
        mean: None where no clip has the number.
        n: clips that it is taken over.
        missing: clips that it is not taken over.
        low, high: percentile bootstrap interval over clips; None for fewer than two clips.
    """

    mean: float | None
    n: int
    missing: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Summary(Mean):
    """One metric of one method over all items of the table.

    Attributes:
        method, metric: whose and what.
        why: number of missing clips by reason: that of a rejection or failure, `no row` or `not measured`.
        categories: the same by category, in the order of their names; items without one are under an empty name.
    """

    method: str = ""
    metric: str = ""
    why: Mapping[str, int] = field(default_factory=dict)
    categories: Mapping[str, Mean] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """The table as a matrix.

    Attributes:
        methods, items, metrics: names of the axes, the first two in order of appearance.
        values: float64 (methods, items, metrics), NaN where there is no number.
        categories: (items,), empty where an item has none.
        fates: why the numbers of (method, item) are missing: (methods, items) of reasons, None where the clip is fine.
    """

    methods: Sequence[str]
    items: Sequence[str]
    metrics: Sequence[str]
    values: Floats
    categories: NDArray[np.object_]
    fates: NDArray[np.object_]


def metrics_of(table: pa.Table) -> list[str]:
    """Names of the columns of floats that have a number in some row, in the table's order."""
    columns = [name for name, kind in zip(table.schema.names, table.schema.types, strict=True) if pt.is_floating(kind)]
    return [name for name in columns if name not in NO_METRIC and table[name].null_count < table.num_rows]


def scores_of(table: pa.Table, metrics: Sequence[str]) -> Scores:
    """Lay the numbers out by method, item and metric; what is not finite counts as missing.

    Raises:
        UsageError: a metric is not in the table, or a method has two rows of an item.
    """
    for name in metrics:
        if name not in table.schema.names:
            raise UsageError(f"no metric `{name}` in the results{nearest(name, metrics_of(table))}")
    methods, method_at = _axis(table["method"])
    items, item_at = _axis(table["item"])
    shape = len(methods), len(items)
    flat = method_at * max(1, len(items)) + item_at
    if len(twice := np.flatnonzero(np.bincount(flat, minlength=1) > 1)):
        method, item = divmod(int(twice[0]), len(items))
        raise UsageError(f"two rows of method {methods[method]!r} and item {items[item]!r}: each may have one")
    values = np.full((*shape, len(metrics)), np.nan)
    for number, name in enumerate(metrics):
        column = table[name].cast(pa.float64()).to_numpy()
        values[method_at, item_at, number] = np.where(np.isfinite(column), column, np.nan)
    fates = np.full(shape, ABSENT, dtype=object)
    rows = zip(table["status"].to_pylist(), _texts(table, "reason"), strict=True)
    fates[method_at, item_at] = np.array([None if s == "ok" else (r or s) for s, r in rows] or [], dtype=object)
    categories = np.full(len(items), "", dtype=object)
    for at, category in zip(item_at.tolist(), _texts(table, "category"), strict=True):
        categories[at] = categories[at] or category or ""
    return Scores(methods, items, list(metrics), values, categories, fates)


def summarise(
    table: pa.Table, metrics: Sequence[str], *, resamples: int = RESAMPLES, seed: int = SEED
) -> list[Summary]:
    """Take the mean of every metric of every method.

    Args:
        table: of an evaluation.
        metrics: names of columns.
        resamples: of each interval.
        seed: of the resamples; they do not depend on which other methods and metrics are there.

    Returns:
        Per method, in order of appearance, one per metric, in the order asked for.

    Raises:
        UsageError: as `scores_of`.
    """
    scores = scores_of(table, metrics)
    groups = {name: np.flatnonzero(scores.categories == name) for name in sorted(set(scores.categories.tolist()))}
    if set(groups) == {""}:
        groups = {}
    keys, columns = [], []
    for method in range(len(scores.methods)):
        for metric in range(len(metrics)):
            column = scores.values[method, :, metric]
            keys += [(method, metric, name) for name in (None, *groups)]
            columns += [column, *(column[chosen] for chosen in groups.values())]
    means = dict(zip(keys, means_of(columns, resamples=resamples, seed=seed), strict=True))
    summaries = []
    for method, of_method in enumerate(scores.methods):
        for metric, name in enumerate(metrics):
            whole = means[method, metric, None]
            missing = np.isnan(scores.values[method, :, metric])
            why = Counter(fate or NOT_MEASURED for fate in scores.fates[method, missing].tolist())
            parts = {group: means[method, metric, group] for group in groups}
            summaries.append(Summary(**vars(whole), method=of_method, metric=name, why=dict(why), categories=parts))
    return summaries


def means_of(columns: Sequence[Floats], *, resamples: int = RESAMPLES, seed: int = SEED) -> list[Mean]:
    """Take the mean and its interval of each column, NaN standing for what is missing.

    Clips are drawn, those without the number among them, and a resample's mean is over the ones that have it. So
    columns of as many clips share their draws, and a table of many is one product of matrices.
    """
    by_length: dict[int, list[int]] = {}
    for number, column in enumerate(columns):
        by_length.setdefault(len(column), []).append(number)
    means: list[Mean] = [Mean(None, 0, 0)] * len(columns)
    for clips, chosen in by_length.items():
        stacked = np.stack([columns[number] for number in chosen], axis=1).reshape(clips, len(chosen))
        there = ~np.isnan(stacked)
        counts = there.sum(0)
        # About a number of its own, so that a column of equal ones has an interval without width.
        shift = stacked[there.argmax(0), np.arange(len(chosen))] if clips else np.zeros(len(chosen))
        about = np.where(there, stacked - shift, 0.0)
        ends = _ends(about, there, resamples, seed) if clips > 1 else None
        for at, number in enumerate(chosen):
            n = int(counts[at])
            middle = float(shift[at] + about[:, at].sum() / n) if n else None
            low, high = (None, None) if ends is None or n < LEAST else map(float, shift[at] + ends[:, at])
            means[number] = Mean(middle, n, clips - n, low, high)
    return means


LEAST = 2
"""Fewest clips with a number that an interval is made of."""


def _ends(values: Floats, there: NDArray[np.bool_], resamples: int, seed: int) -> Floats:
    """Both ends (2, columns) of the interval of values (clips, columns), 0 where they are not there."""
    n = len(values)
    rng = np.random.default_rng([seed, n])
    means = np.empty((resamples, values.shape[1]))
    whole = bool(there.all())
    step = max(1, CELLS // n)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = rng.integers(0, n, (count, n)) + n * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n).astype(np.float64)
        counts = np.full((count, values.shape[1]), float(n)) if whole else weights @ there
        with np.errstate(invalid="ignore"):
            means[start : start + count] = weights @ values / counts
    ends = np.full((2, values.shape[1]), np.nan)
    full = ~np.isnan(means).any(0)
    shares = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    ends[:, full] = np.quantile(means[:, full], shares, axis=0)
    for column in np.flatnonzero(~full):  # draws without one clip that has the number say nothing of it
        if len(known := means[~np.isnan(means[:, column]), column]):
            ends[:, column] = np.quantile(known, shares)
    return ends


def _axis(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int64]]:
    """Names in order of appearance, and the number of each row's."""
    coded = pa.chunked_array([column.combine_chunks()]).combine_chunks().dictionary_encode()
    return coded.dictionary.to_pylist(), coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def _texts(table: pa.Table, name: str) -> list[str | None]:
    return table[name].to_pylist() if name in table.schema.names else [None] * table.num_rows
