"""Fits the score's models: logistic regression over faults, cross-validated by source, with a bootstrap over sources.

Pairs of one source are alike, so that a source is never on both sides of a split, and intervals come from drawing whole
sources. Weights are at least 0 and shrunk towards 0: a metric that tells nothing gets no weight.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ffpdata.metrics.score import MOST, ScoreModel, TaskModel, Term

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SHRINK = 1.0
"""Weight of the squared weights beside the summed loss of all pairs."""
FOLDS = 10
"""Most parts of the sources, each left out once."""
RESAMPLES = 200
CONFIDENCE = 0.95
LEAST = 20
"""Fewest judged pairs of a task for a model, and 3 of them on each side."""
_FEW = 3
BINS = 10
LEFT_OUT = 1e-3
"""A term of less weight is left out of the model."""


@dataclass(frozen=True)
class Judged:
    """One judged pair.

    Attributes:
        numbers: its metrics and scores, by name.
        good: fraction of the judges who accepted it, 0..1.
        source: what it must not be split from.
        weight: how much it counts, above 0.
    """

    numbers: Mapping[str, float]
    good: float
    source: str
    weight: float = 1.0


@dataclass(frozen=True)
class Reliability:
    """Predictions for pairs of sources that the model had not seen, against what was judged.

    Attributes:
        predicted, observed, count: per bin of predictions that has any: mean prediction, accepted fraction, pairs.
        low, high: interval of `observed` per bin.
        auc, auc_interval: probability that a good pair scores above a bad one, and its interval.
        brier: mean squared error of the prediction; 0.25 is what saying one half gets.
        error: mean distance of prediction and observation over the bins, weighted by pairs.
    """

    predicted: list[float]
    observed: list[float]
    low: list[float]
    high: list[float]
    count: list[int]
    auc: float
    auc_interval: tuple[float, float]
    brier: float
    error: float


@dataclass(frozen=True)
class Fit:
    """A task's model, how reliable it is, and predictions for its pairs, each by a model that never saw its source."""

    model: TaskModel
    reliability: Reliability
    unseen: Floats


def fit_task(pairs: Sequence[Judged], directions: Mapping[str, str], seed: int = 0) -> Fit | None:
    """Fit the model of one task.

    Args:
        pairs: judged ones.
        directions: number to its good side, `higher`, `lower` or `neither` (bad on both sides).
        seed: of the bootstrap.

    Returns:
        None where fewer than `LEAST` pairs were judged, or all but a few alike.
    """
    model = fit_model(pairs, directions)
    if model is None:
        return None
    good = np.array([p.good for p in pairs], np.float64)
    weights = np.array([p.weight for p in pairs], np.float64)
    unseen = np.full(len(pairs), np.nan)
    part = parts([p.source for p in pairs])
    for number in np.unique(part):
        without = fit_model([p for p, at in zip(pairs, part, strict=True) if at != number], directions)
        for n in np.flatnonzero(part == number).tolist():
            unseen[n] = without.probability(pairs[n].numbers) if without else np.nan
    found = reliability(unseen, good, weights, [p.source for p in pairs], seed)
    facts = {
        "pairs": len(pairs),
        "sources": len({p.source for p in pairs}),
        "good": round(float(np.average(good, weights=weights)), 4),
        "auc": round(found.auc, 4),
        "auc_interval": [round(v, 4) for v in found.auc_interval],
        "brier": round(found.brier, 4),
        "calibration_error": round(found.error, 4),
    }
    return Fit(model.model_copy(update={"fitted": facts}), found, unseen)


def fit_model(pairs: Sequence[Judged], directions: Mapping[str, str]) -> TaskModel | None:
    """Fit the model alone; arguments and result as of `fit_task`."""
    good = np.array([p.good for p in pairs], np.float64)
    if len(pairs) < LEAST or min((good > 0.5).sum(), (good <= 0.5).sum()) < _FEW:
        return None
    names = sorted({name for p in pairs for name in p.numbers} & set(directions))
    values = np.array([[p.numbers.get(name, np.nan) for name in names] for p in pairs], np.float64)
    return _fit(names, values, good, np.array([p.weight for p in pairs], np.float64), directions)


def reliability(predicted: Floats, good: Floats, weights: Floats, sources: Sequence[str], seed: int = 0) -> Reliability:
    """Compare predictions (n,) with the accepted fraction (n,); NaN predictions are left out."""
    known = np.isfinite(predicted)
    p, y, w = predicted[known], good[known], weights[known]
    groups = [np.flatnonzero(np.array(sources)[known] == s) for s in sorted(set(np.array(sources)[known].tolist()))]
    draw = np.random.default_rng(seed)
    drawn = (
        [np.concatenate([groups[i] for i in draw.integers(0, len(groups), len(groups))]) for _ in range(RESAMPLES)]
        if groups
        else []
    )
    ends = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))
    aucs = [a for chosen in drawn if (a := auc(p[chosen], y[chosen] > 0.5)) is not None]
    place = np.minimum((p * BINS).astype(int), BINS - 1)
    rows: list[tuple[float, ...]] = []
    for number in range(BINS):
        mine = place == number
        if not mine.any():
            continue
        shares = [
            np.average(y[c][place[c] == number], weights=w[c][place[c] == number])
            for c in drawn
            if (place[c] == number).any()
        ]
        low, high = np.percentile(shares, ends) if shares else (0.0, 1.0)
        rows.append(
            (np.average(p[mine], weights=w[mine]), np.average(y[mine], weights=w[mine]), low, high, int(mine.sum()))
        )
    points, observed, low, high, count = ([row[n] for row in rows] for n in range(5))
    share = np.array(count, np.float64) / max(1, len(p))
    ends_of_auc = np.percentile(aucs, ends) if aucs else (0.0, 1.0)
    return Reliability(
        predicted=points,
        observed=observed,
        low=low,
        high=high,
        count=[int(n) for n in count],
        auc=auc(p, y > 0.5) or 0.5,
        auc_interval=(float(ends_of_auc[0]), float(ends_of_auc[1])),
        brier=float(np.average((p - y) ** 2, weights=w)) if len(p) else 0.25,
        error=float((share * np.abs(np.array(points) - np.array(observed))).sum()),
    )


def auc(scores: Floats, good: NDArray[Any]) -> float | None:
    """Return the chance that a good one has a higher score than a bad one, ties counted half; None without both."""
    from scipy.stats import rankdata

    count, others = int(good.sum()), int((~good).sum())
    if not count or not others:
        return None
    return float((rankdata(scores)[good].sum() - count * (count + 1) / 2) / (count * others))


def score_model(fits: Mapping[str, Fit], about: str, same: Mapping[str, str]) -> ScoreModel:
    """Return the models of several tasks together."""
    return ScoreModel(about=about, tasks={task: fit.model for task, fit in fits.items()}, same=dict(same))


def _fit(names: list[str], values: Floats, good: Floats, weights: Floats, directions: Mapping[str, str]) -> TaskModel:
    from scipy.optimize import minimize

    terms = [
        Term(metric=name, side=side, knee=knee, scale=scale, weight=0.0)
        for column, name in enumerate(names)
        for side in {"higher": ("low",), "lower": ("high",), "neither": ("low", "high")}[directions[name]]
        if (found := _knee(values[:, column], good, side))
        for knee, scale in [found]
    ]
    place = {name: column for column, name in enumerate(names)}
    faults = np.array([_faults(term, values[:, place[term.metric]]) for term in terms]).reshape(len(terms), len(good)).T
    share, shrink = weights / weights.sum(), SHRINK / len(good)

    def loss(x: Floats) -> tuple[float, Floats]:
        logit = x[0] - faults @ x[1:]
        # log(1 + exp(-z)) and its derivative, without overflow
        value = (share * (np.logaddexp(0, logit) - good * logit)).sum() + shrink * (x[1:] ** 2).sum()
        slope = share * (1 / (1 + np.exp(-np.clip(logit, -50, 50))) - good)
        return float(value), np.concatenate([[slope.sum()], -(faults.T @ slope) + 2 * shrink * x[1:]])

    start = np.concatenate([[1.0], np.full(len(terms), 0.05)])
    bounds = [(None, None), *[(0.0, None)] * len(terms)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000}).x
    kept = [
        term.model_copy(update={"weight": round(float(w), 5)})
        for term, w in zip(terms, found[1:], strict=True)
        if w >= LEFT_OUT
    ]
    return TaskModel(intercept=round(float(found[0]), 5), terms=tuple(kept))


def _knee(values: Floats, good: Floats, side: str) -> tuple[float, float] | None:
    """Where good pairs mostly end on a side, and their spread there; None where too few have the number."""
    of_good = values[(good > 0.5) & np.isfinite(values)]
    of_bad = values[(good <= 0.5) & np.isfinite(values)]
    if len(of_good) < _FEW or len(of_bad) < _FEW:
        return None
    sign = 1.0 if side == "high" else -1.0
    middle, edge = np.percentile(sign * of_good, (60, 95))
    beyond = (sign * of_bad - middle)[sign * of_bad > middle]
    if not len(beyond):
        return None
    scale = max(float(edge - middle), 0.05 * float(np.median(beyond)), 1e-6)  # a rare fault has few, and counts
    return float(f"{sign * middle:.5g}"), float(f"{scale:.5g}")


def _faults(term: Term, values: Floats) -> Floats:
    beyond = (values - term.knee) if term.side == "high" else (term.knee - values)
    return np.nan_to_num(np.clip(beyond / term.scale, 0, MOST))


def parts(sources: Sequence[str]) -> NDArray[Any]:
    """Return the part of every pair's source: one each, or `FOLDS` of them, the same on every machine."""
    names = sorted(set(sources), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return np.array([names.index(source) % FOLDS for source in sources])
