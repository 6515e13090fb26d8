"""From verdicts to thresholds: how well a score tells good pairs from bad ones, and where to cut.

The chance that people accept a pair, given its score, is fitted by isotonic regression on the reviewed pairs; the
precision above a threshold is the mean of that chance over all pairs there, reviewed or not. So it does not matter
which scores were reviewed more often. Intervals are percentiles of a bootstrap over the reviewed pairs.

Reviewers err. Where several judged the same pairs, their disagreement tells how often: two who err with probability e
agree with probability 1 - 2e(1 - e). Of what is accepted with probability p, they then accept p(1 - e) + (1 - p)e.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import yaml

from ffpdata.curate import verdicts as reviewed
from ffpdata.curate.verdicts import ACCEPT, REJECT, Verdict
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import literal, quote

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FEWEST = 20
"""Reviewed pairs, of either kind together, below which nothing is said; and judged by two, of the reviewers' error."""
RESAMPLES = 400
CONFIDENCE = 0.95
MARGIN = 0.02
"""Half the width of the precision's interval that more reviews should lead to."""


SCORES = {"verify_score": "verify", "screen_score": "screen"}
"""Scores of the vision-language model to the stage whose `min_score` they are held against."""


@dataclass(frozen=True)
class JudgedPair:
    """A pair's score, and what reviewers said of it.

    Attributes:
        score: the number that is calibrated.
        accepts: how many accepted it.
        rejects: how many rejected it; both 0 where nobody did either.
    """

    score: float
    accepts: int = 0
    rejects: int = 0


@dataclass(frozen=True)
class Threshold:
    """Where to cut a score.

    Attributes:
        reviewed: pairs with a verdict.
        accepted: share of them that was accepted.
        higher_is_better: which side of the threshold is kept.
        auc: chance that an accepted pair scores better than a rejected one; 0.5 tells nothing.
        threshold: the one that keeps most pairs at the wanted precision; None where no threshold reaches it.
        interval: of the threshold, `CONFIDENCE`.
        precision: share of good pairs among those kept, reviewers' errors taken out; without a threshold the best there
            is.
        precision_interval: of the precision at this threshold.
        recall: share of the good pairs that is kept.
        kept: pairs on the kept side, all counted.
        pairs: pairs with this score.
        more_reviews: reviews until the precision is known to `MARGIN`.
    """

    reviewed: int
    accepted: float
    higher_is_better: bool
    auc: float
    threshold: float | None
    interval: tuple[float, float] | None
    precision: float
    precision_interval: tuple[float, float]
    recall: float
    kept: int
    pairs: int
    more_reviews: int

    def line(self, name: str) -> str:
        """Tell it to a person."""
        side, (low, high) = ("at least" if self.higher_is_better else "at most"), self.precision_interval
        at = "no threshold reaches it, the best" if self.threshold is None else f"{side} {self.threshold:.3g}"
        if self.interval:
            at += f" [{self.interval[0]:.3g}, {self.interval[1]:.3g}]"
        more = f", {self.more_reviews} more reviews to know it to {MARGIN:.0%}" if self.more_reviews else ""
        return (
            f"{name:<28} {at}: precision {self.precision:.3f} [{low:.3f}, {high:.3f}], recall {self.recall:.2f}, keeps "
            f"{self.kept} of {self.pairs} (AUC {self.auc:.2f}, {self.reviewed} reviewed{more})"
        )


@dataclass(frozen=True)
class Calibration:
    """What a run's verdicts tell.

    Attributes:
        cuts: (column, task) to its cut; the task is empty for a score of the vision-language model.
        error: how often reviewers err, as it was given or estimated.
        estimated: whether it was estimated from pairs that several judged.
        settings: stage settings that cut at the thresholds found.
    """

    cuts: dict[tuple[str, str], Threshold]
    error: float
    estimated: bool
    settings: dict[str, dict[str, Any]]

    def lines(self) -> list[str]:
        """Tell it to a person."""
        if not self.cuts:
            return [f"Too few verdicts: at least {FEWEST} pairs with a score, accepted ones and rejected ones."]
        how = "read from the pairs that several judged" if self.estimated else "as given, or unknown and taken as 0"
        return [
            *(cut.line(f"{name} {task}".strip()) for (name, task), cut in self.cuts.items()),
            f"Reviewers err in {self.error:.1%} of verdicts ({how}).",
        ]


def calibrate_run(run: RunFolder, precision: float, *, error: float | None = None) -> Calibration:
    """Calibrate the scores of the vision-language model over all tasks, and every measure per task.

    Args:
        run: a run with verdicts.
        precision: wanted share of good pairs.
        error: how often a reviewer errs; estimated from the overlap where it is None, 0 where that is too small.
    """
    from ffpdata.stages.measure import METRICS

    with run.reading() as connection:
        holding = reviewed.read(connection)
        have = set(connection.view("items").columns)
        names = [name for name in (*SCORES, *METRICS) if name in have]
        pairs: list[dict[str, Any]] = []
        for track, stages in run.tracks().items():
            columns = ", ".join(["item_id", "task", *map(quote, names), f"{reviewed.last_key(stages)} as last"])
            mine = connection.view("items").filter(f"track = {literal(track)}").project(columns).order("item_id")
            pairs += [{"track": track, **row} for row in pa.table(mine.to_arrow_table()).to_pylist()]
    estimate = reviewer_error(holding.values()) if error is None else None
    known = error if error is not None else (estimate or 0.0)
    decisions = reviewed.decisions(holding)
    groups: dict[tuple[str, str], list[JudgedPair]] = {}
    for pair in pairs:
        told = decisions.get(reviewed.pair_key(pair["track"], pair["item_id"], pair["last"] or ""))
        for name in names:
            if pair[name] is not None:
                judged = JudgedPair(pair[name], *((told.accepts, told.rejects) if told else ()))
                groups.setdefault((name, "" if name in SCORES else pair["task"] or ""), []).append(judged)
    cuts = {group: cut for group, judged in groups.items() if (cut := calibrate(judged, precision, error=known))}
    return Calibration(cuts, known, estimate is not None, _settings(cuts))


def overlay(found: Calibration, precision: float) -> str:
    """Return the settings as the text of a profile that is laid over another one."""
    head = {"name": "calibrated", "about": f"Thresholds at which reviewers accept {precision:.1%} of the pairs."}
    return yaml.safe_dump(head | {"stages": found.settings}, sort_keys=False)


def _settings(cuts: Mapping[tuple[str, str], Threshold]) -> dict[str, dict[str, Any]]:
    """Settings of the scores of the model; a measure's limits are for a person to choose among."""
    found = {}
    for (name, _), cut in cuts.items():
        if name in SCORES and cut.threshold is not None and cut.higher_is_better:
            found[SCORES[name]] = {"min_score": round(cut.threshold, 3)}
    return found


def reviewer_error(verdicts: Iterable[Mapping[str, Verdict]]) -> float | None:
    """Estimate how often a reviewer errs from the pairs that several judged; None where there are too few.

    Args:
        verdicts: per pair, reviewer to verdict.
    """
    agree = count = 0
    for given in verdicts:
        told = [verdict.verdict for verdict in given.values() if verdict.verdict in (ACCEPT, REJECT)]
        for number, first in enumerate(told):
            for second in told[number + 1 :]:
                agree += first == second
                count += 1
    if count < FEWEST:
        return None
    return (1 - math.sqrt(max(0.0, 2 * agree / count - 1))) / 2


def calibrate(pairs: Sequence[JudgedPair], precision: float, *, error: float = 0.0, seed: int = 0) -> Threshold | None:
    """Find the threshold of one score that reaches a precision.

    Args:
        pairs: all pairs with the score, reviewed or not.
        precision: wanted share of good pairs among those kept, 0..1.
        error: how often a reviewer errs, 0..0.5.
        seed: of the bootstrap.

    Returns:
        None where fewer than `FEWEST` pairs were reviewed, or all were judged alike.

    Raises:
        ValueError: a precision or an error outside of its range.
    """
    if not 0 < precision < 1:
        raise ValueError(f"a precision lies between 0 and 1, not {precision}")
    if not 0 <= error < 0.5:
        raise ValueError(f"reviewers who err with probability {error} tell nothing: it must be below 0.5")
    scores = np.array([pair.score for pair in pairs], np.float64)
    accepts = np.array([pair.accepts for pair in pairs], np.float64)
    votes = accepts + np.array([pair.rejects for pair in pairs], np.float64)
    told = votes > 0
    share = accepts[told] / votes[told]
    if told.sum() < FEWEST or share.min() == share.max():
        return None
    auc = _auc(scores[told], share > 0.5)
    higher = auc >= 0.5
    sign = 1.0 if higher else -1.0
    every = np.sort(sign * scores)
    sample = _Sample(sign * scores[told], share, votes[told], error)
    first = sample.curve(every, np.ones(told.sum()))
    place = first.lowest(precision)
    at = int(first.precision.argmax()) if place is None else place
    draw = np.random.default_rng(seed)
    even = np.full(told.sum(), 1 / told.sum())
    others = [sample.curve(every, draw.multinomial(told.sum(), even)) for _ in range(RESAMPLES)]
    places = [found for curve in others if (found := curve.lowest(precision)) is not None]
    ends = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))
    interval = None
    if place is not None and len(places) > RESAMPLES / 2:
        low, high = np.percentile(sign * every[places], ends)
        interval = (float(low), float(high))
    low, high = np.percentile([curve.precision[at] for curve in others], ends)
    return Threshold(
        reviewed=int(told.sum()),
        accepted=float(share.mean()),
        higher_is_better=bool(higher),
        auc=float(max(auc, 1 - auc)),
        threshold=None if place is None else float(sign * every[place]),
        interval=interval,
        precision=float(first.precision[at]),
        precision_interval=(float(low), float(high)),
        recall=float(first.recall[at]),
        kept=len(every) - at,
        pairs=len(every),
        more_reviews=_more(float(high - low), int(told.sum())),
    )


@dataclass(frozen=True)
class _Curve:
    """Precision and recall of keeping everything from each place on."""

    precision: Floats
    recall: Floats
    usable: NDArray[np.bool_]

    def lowest(self, wanted: float) -> int | None:
        places = np.flatnonzero((self.precision >= wanted) & self.usable)
        return int(places[0]) if len(places) else None


class _Sample:
    """The reviewed pairs, sorted by score."""

    def __init__(self, scores: Floats, share: Floats, votes: Floats, error: float) -> None:
        order = np.argsort(scores, kind="stable")
        self.scores, self.votes = scores[order], votes[order]
        self.share = (share[order] - error) / (1 - 2 * error)

    def curve(self, every: Floats, weights: NDArray[Any]) -> _Curve:
        """Fit the chance of acceptance with weights per pair and sum it up from each of the sorted scores on."""
        from scipy.optimize import isotonic_regression

        kept = weights > 0
        fitted = isotonic_regression(self.share[kept], weights=(weights * self.votes)[kept]).x.clip(0, 1)
        chance = np.interp(every, self.scores[kept], fitted)
        above = chance[::-1].cumsum()[::-1]
        precision = above / np.arange(len(every), 0, -1)
        # Beyond what was reviewed nothing is known; of equal scores the first takes them all along.
        usable = (every >= self.scores[kept][0]) & (every <= self.scores[kept][-1])
        usable[1:] &= every[1:] > every[:-1]
        return _Curve(precision, above / max(above[0], 1e-12), usable)


def _auc(scores: Floats, good: NDArray[np.bool_]) -> float:
    """Chance that a good pair has the higher score, ties counted half."""
    from scipy.stats import rankdata

    count, others = int(good.sum()), int((~good).sum())
    if not count or not others:
        return 0.5
    return float((rankdata(scores)[good].sum() - count * (count + 1) / 2) / (count * others))


def _more(width: float, reviewed: int) -> int:
    """Reviews, spread as those so far, until an interval is `2 * MARGIN` wide: its width falls with the root."""
    return max(0, math.ceil(reviewed * ((width / (2 * MARGIN)) ** 2 - 1)))
