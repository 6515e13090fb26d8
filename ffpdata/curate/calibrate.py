"""Calibration of score thresholds from verdicts: how well a score separates good pairs from bad ones, and where to cut.

The probability that reviewers accept a pair, given its score, is fitted by isotonic regression on the reviewed pairs;
the precision above a threshold is the mean of that probability over all pairs there, reviewed or not. So it does not
matter which scores were reviewed more often. Intervals are percentiles of a bootstrap over the reviewed pairs.

Reviewers err. Their error is estimated from pairs that several judged: two who err with probability e agree with
probability 1 - 2e(1 - e). Of pairs that are good with probability p, they then accept p(1 - e) + (1 - p)e.
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
from ffpdata.curate.score_fit import Fit
from ffpdata.curate.score_verdicts import DIRECTIONS, PairNumbers, VerdictFit, fit_verdicts, numbers_of
from ffpdata.curate.verdicts import ACCEPT, REJECT, Verdict
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.sql_text import literal, quote

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MIN_REVIEWED = 20
"""Least number of reviewed pairs for a threshold, and of comparisons of two verdicts for the reviewers' error."""
RESAMPLES = 400
CONFIDENCE = 0.95
MARGIN = 0.02
"""Wanted half width of the precision's interval, for the number of further reviews."""


SCORE = "score"
"""The score of the stage `grade`."""
SCORES = {"verify_score": "verify", "screen_score": "screen"}
"""Scores of the vision-language model, each with the stage whose `min_score` is its threshold."""


@dataclass(frozen=True)
class JudgedPair:
    """A pair's score and its verdicts.

    Attributes:
        score: the score that is calibrated.
        accepts: number of reviewers who accepted the pair.
        rejects: number who rejected it; both are 0 where nobody reviewed it.
    """

    score: float
    accepts: int = 0
    rejects: int = 0


@dataclass(frozen=True)
class Threshold:
    """The threshold of one score.

    Attributes:
        reviewed: number of pairs with a verdict.
        accepted: fraction of them that was accepted, 0..1.
        higher_is_better: whether pairs at or above the threshold are kept, or those at or below it.
        auc: probability that an accepted pair scores better than a rejected one, 0.5..1; 0.5 is no separation.
        threshold: the one that keeps most pairs at the wanted precision; None where no threshold reaches it.
        interval: confidence interval of the threshold (`CONFIDENCE`).
        precision: fraction of good pairs among those kept, corrected for reviewers' errors; without a threshold, the
            highest that any threshold reaches.
        precision_interval: confidence interval of the precision at this threshold.
        recall: fraction of the good pairs that is kept.
        kept: number of pairs that are kept, reviewed or not.
        pairs: number of pairs with this score.
        more_reviews: number of further reviews until the precision is known to +- `MARGIN`.
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
        """Format the threshold as a line of the terminal."""
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
    """The thresholds of a run's scores.

    Attributes:
        cuts: (column, task) to its threshold; the task is empty for a score of the vision-language model.
        error: probability that a reviewer errs, given or estimated.
        estimated: whether it was estimated from pairs that several judged.
        settings: stage settings with the thresholds, and with the score's models.
        score: the models of the score `grade` that were fitted; None where there are too few verdicts, or no metrics.
    """

    cuts: dict[tuple[str, str], Threshold]
    error: float
    estimated: bool
    settings: dict[str, dict[str, Any]]
    score: VerdictFit | None = None

    def lines(self) -> list[str]:
        """Format the thresholds as lines of the terminal."""
        if not self.cuts:
            return [f"Too few verdicts: at least {MIN_REVIEWED} pairs with a score, accepted ones and rejected ones."]
        how = "read from the pairs that several judged" if self.estimated else "as given, or unknown and taken as 0"
        return [
            *(cut.line(f"{name} {task}".strip()) for (name, task), cut in self.cuts.items()),
            *(_score_line(task, fit) for task, fit in (self.score.fits if self.score else {}).items()),
            f"Reviewers err in {self.error:.1%} of verdicts ({how}).",
        ]


def calibrate_run(run: RunFolder, precision: float, *, error: float | None = None) -> Calibration:
    """Calibrate the scores of the vision-language model over all tasks, and every measure per task.

    Args:
        run: a run with verdicts.
        precision: wanted fraction of good pairs, 0..1.
        error: probability that a reviewer errs, 0..0.5; None estimates it from the overlap, and takes 0 where that is
            too small.
    """
    from ffpdata.stages.measure import METRICS

    extra = [name for name in DIRECTIONS if name not in SCORES and name not in METRICS]
    with run.reading() as connection:
        verdicts = reviewed.read(connection)
        columns_present = set(connection.view("items").columns)
        names = [name for name in (*SCORES, *METRICS) if name in columns_present]
        used = [*names, *(name for name in extra if name in columns_present)]
        pairs: list[dict[str, Any]] = []
        for track, stages in run.tracks().items():
            columns = ", ".join(
                ["item_id", "source_id", "task", *map(quote, used), f"{reviewed.last_key(stages)} as last"]
            )
            mine = connection.view("items").filter(f"track = {literal(track)}").project(columns).order("item_id")
            pairs += [{"track": track, **row} for row in pa.table(mine.to_arrow_table()).to_pylist()]
    estimate = reviewer_error(verdicts.values()) if error is None else None
    erring = error if error is not None else (estimate or 0.0)
    decisions = reviewed.decisions(verdicts)
    groups: dict[tuple[str, str], list[JudgedPair]] = {}
    finished = []
    for pair in pairs:
        decision = decisions.get(reviewed.pair_key(pair["track"], pair["item_id"], pair["last"] or ""))
        for name in names:
            if pair[name] is not None:
                judged = JudgedPair(pair[name], *((decision.accepts, decision.rejects) if decision else ()))
                groups.setdefault((name, "" if name in SCORES else pair["task"] or ""), []).append(judged)
        votes = (decision.accepts, decision.rejects) if decision else ()
        finished.append(PairNumbers(pair["task"] or "", pair["source_id"], numbers_of(pair), *votes))
    score = fit_verdicts(finished, error=erring) if any("grade" in stages for stages in run.tracks().values()) else None
    if score:
        # The cut of the new score, by predictions for sources that its model had not seen.
        groups[SCORE, ""] = [
            JudgedPair(value, pair.accepts, pair.rejects)
            for value, pair in zip(score.scores, finished, strict=True)
            if value is not None
        ]
    cuts = {group: cut for group, judged in groups.items() if (cut := calibrate(judged, precision, error=erring))}
    return Calibration(cuts, erring, estimate is not None, _settings(cuts, score), score)


def overlay(found: Calibration, precision: float) -> str:
    """Return the settings as the YAML text of a profile overlay."""
    head = {"name": "calibrated", "about": f"Thresholds at which reviewers accept {precision:.1%} of the pairs."}
    return yaml.safe_dump(head | {"stages": found.settings}, sort_keys=False)


def _settings(cuts: Mapping[tuple[str, str], Threshold], score: VerdictFit | None) -> dict[str, dict[str, Any]]:
    """Return settings for scores, and the score's models; the limits of measures are chosen by people."""
    found: dict[str, dict[str, Any]] = {"grade": {"score": score.model.model_dump(mode="json")}} if score else {}
    for (name, _), cut in cuts.items():
        stage = "grade" if name == SCORE else SCORES.get(name)
        if stage and cut.threshold is not None and cut.higher_is_better:
            found.setdefault(stage, {})["min_score"] = round(cut.threshold, 3)
    return found


def _score_line(task: str, fit: Fit) -> str:
    found = fit.reliability
    low, high = found.auc_interval
    terms = ", ".join(term.metric for term in sorted(fit.model.terms, key=lambda term: -term.weight)[:4])
    return (
        f"{f'score of {task}':<28} AUC {found.auc:.3f} [{low:.3f}, {high:.3f}] on sources left out, calibration error "
        f"{found.error:.3f}; by {terms}"
    )


def reviewer_error(verdicts: Iterable[Mapping[str, Verdict]]) -> float | None:
    """Estimate the probability that a reviewer errs from the pairs that several judged; None where there are too few.

    Args:
        verdicts: per pair, reviewer to verdict.
    """
    agree = count = 0
    for by_reviewer in verdicts:
        votes = [verdict.verdict for verdict in by_reviewer.values() if verdict.verdict in (ACCEPT, REJECT)]
        for number, first in enumerate(votes):
            for second in votes[number + 1 :]:
                agree += first == second
                count += 1
    if count < MIN_REVIEWED:
        return None
    return (1 - math.sqrt(max(0.0, 2 * agree / count - 1))) / 2


def calibrate(pairs: Sequence[JudgedPair], precision: float, *, error: float = 0.0, seed: int = 0) -> Threshold | None:
    """Find the threshold of one score that reaches a precision.

    Args:
        pairs: all pairs with the score, reviewed or not.
        precision: wanted fraction of good pairs among those kept, between 0 and 1.
        error: probability that a reviewer errs, 0 to below 0.5.
        seed: of the bootstrap.

    Returns:
        None where fewer than `MIN_REVIEWED` pairs were reviewed, or all got the same verdict.

    Raises:
        ValueError: a precision or an error outside of its range.
    """
    if not 0 < precision < 1:
        raise ValueError(f"a precision is between 0 and 1, not {precision}")
    if not 0 <= error < 0.5:
        raise ValueError(f"reviewers who err with probability {error} tell nothing: it must be below 0.5")
    scores = np.array([pair.score for pair in pairs], np.float64)
    accepts = np.array([pair.accepts for pair in pairs], np.float64)
    votes = accepts + np.array([pair.rejects for pair in pairs], np.float64)
    judged = votes > 0
    share = accepts[judged] / votes[judged]
    if judged.sum() < MIN_REVIEWED or share.min() == share.max():
        return None
    auc = _auc(scores[judged], share > 0.5)
    higher = auc >= 0.5
    sign = 1.0 if higher else -1.0
    every = np.sort(sign * scores)
    sample = _ReviewedScores(sign * scores[judged], share, votes[judged], error)
    first = sample.curve(every, np.ones(judged.sum()))
    position = first.lowest(precision)
    at = int(first.precision.argmax()) if position is None else position
    draw = np.random.default_rng(seed)
    even = np.full(judged.sum(), 1 / judged.sum())
    others = [sample.curve(every, draw.multinomial(judged.sum(), even)) for _ in range(RESAMPLES)]
    positions = [found for curve in others if (found := curve.lowest(precision)) is not None]
    ends = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))
    interval = None
    if position is not None and len(positions) > RESAMPLES / 2:
        low, high = np.percentile(sign * every[positions], ends)
        interval = (float(low), float(high))
    low, high = np.percentile([curve.precision[at] for curve in others], ends)
    return Threshold(
        reviewed=int(judged.sum()),
        accepted=float(share.mean()),
        higher_is_better=bool(higher),
        auc=float(max(auc, 1 - auc)),
        threshold=None if position is None else float(sign * every[position]),
        interval=interval,
        precision=float(first.precision[at]),
        precision_interval=(float(low), float(high)),
        recall=float(first.recall[at]),
        kept=len(every) - at,
        pairs=len(every),
        more_reviews=_further_reviews(float(high - low), int(judged.sum())),
    )


@dataclass(frozen=True)
class _Curve:
    """Precision and recall of keeping all pairs from each position of the sorted scores on; `usable` thresholds."""

    precision: Floats
    recall: Floats
    usable: NDArray[np.bool_]

    def lowest(self, precision: float) -> int | None:
        """Return the lowest position whose precision is high enough; None where there is none."""
        positions = np.flatnonzero((self.precision >= precision) & self.usable)
        return int(positions[0]) if len(positions) else None


class _ReviewedScores:
    """The reviewed pairs, sorted by score; `share` is the accepted fraction, corrected for reviewers' errors."""

    def __init__(self, scores: Floats, share: Floats, votes: Floats, error: float) -> None:
        order = np.argsort(scores, kind="stable")
        self.scores, self.votes = scores[order], votes[order]
        self.share = (share[order] - error) / (1 - 2 * error)

    def curve(self, every: Floats, weights: NDArray[Any]) -> _Curve:
        """Fit the probability of acceptance with a weight per pair; return the curve over the sorted scores `every`."""
        from scipy.optimize import isotonic_regression

        kept = weights > 0
        fitted = isotonic_regression(self.share[kept], weights=(weights * self.votes)[kept]).x.clip(0, 1)
        probability = np.interp(every, self.scores[kept], fitted)
        above = probability[::-1].cumsum()[::-1]
        precision = above / np.arange(len(every), 0, -1)
        # No threshold outside of the reviewed scores; of equal scores the first position keeps them all.
        usable = (every >= self.scores[kept][0]) & (every <= self.scores[kept][-1])
        usable[1:] &= every[1:] > every[:-1]
        return _Curve(precision, above / max(above[0], 1e-12), usable)


def _auc(scores: Floats, good: NDArray[np.bool_]) -> float:
    """Return the probability that a good pair has a higher score than a bad one, ties counted half."""
    from scipy.stats import rankdata

    count, others = int(good.sum()), int((~good).sum())
    if not count or not others:
        return 0.5
    return float((rankdata(scores)[good].sum() - count * (count + 1) / 2) / (count * others))


def _further_reviews(width: float, reviewed: int) -> int:
    """Return the number of reviews until an interval is `2 * MARGIN` wide: its width falls with the square root."""
    return max(0, math.ceil(reviewed * ((width / (2 * MARGIN)) ** 2 - 1)))
