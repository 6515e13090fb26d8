"""The score's models from verdicts: every reviewed pair of a run with its metrics, and who accepted it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffpdata.curate.score_fit import Fit, Judged, fit_task, score_model
from ffpdata.metrics.learned import LEARNED
from ffpdata.metrics.motion import DESCRIBES
from ffpdata.metrics.score import ScoreModel
from ffpdata.metrics.style import STYLE
from ffpdata.metrics.vector import VECTOR
from ffpdata.metrics.words import WORDS

DIRECTIONS = {
    "change": "higher",
    "change_inside": "higher",
    "structure": "higher",
    "flicker": "lower",
    **{metric.name: metric.better for metric in VECTOR if metric.name not in DESCRIBES},
    **{score.name: score.better for score in LEARNED if score.better != "neither"},
    **dict.fromkeys((*WORDS, *STYLE, "verify_score", "screen_score"), "higher"),
}
"""Numbers that a model may use, and which side is good; the scores of the vision-language model are among them."""

SAME = {"swap": "modification", "text_removal": "removal"}
"""Tasks that are scored as another one where they have no model of their own."""


@dataclass(frozen=True)
class PairNumbers:
    """A finished pair: its numbers by name, its source, and how many reviewers accepted and rejected it."""

    task: str
    source: str
    numbers: Mapping[str, float]
    accepts: int = 0
    rejects: int = 0


@dataclass(frozen=True)
class VerdictFit:
    """The models of all tasks that have enough verdicts, and each pair's probability by one that never saw its source.

    Attributes:
        fits: by task.
        model: the same as settings of `grade` take it.
        scores: per pair, in their order; None where its task has no model.
    """

    fits: dict[str, Fit]
    model: ScoreModel
    scores: list[float | None]


def fit_verdicts(pairs: Sequence[PairNumbers], *, error: float = 0.0) -> VerdictFit | None:
    """Fit the score of every task that has enough verdicts.

    Args:
        pairs: finished ones, reviewed or not.
        error: probability that a reviewer errs, 0 to below 0.5: shares of acceptance are corrected for it.

    Returns:
        None where no task has enough.
    """
    fits: dict[str, Fit] = {}
    scores: list[float | None] = [None] * len(pairs)
    for task in sorted({pair.task for pair in pairs}):
        mine = [n for n, pair in enumerate(pairs) if pair.task == task]
        seen = [n for n in mine if pairs[n].accepts + pairs[n].rejects]
        fit = fit_task([_judged(pairs[n], error) for n in seen], DIRECTIONS)
        if fit is None:
            continue
        fits[task] = fit
        unseen = dict(zip(seen, fit.unseen.tolist(), strict=True))
        for n in mine:
            known = unseen.get(n, float("nan"))
            scores[n] = known if np.isfinite(known) else fit.model.probability(pairs[n].numbers)
    if not fits:
        return None
    reviewed = sum(fit.model.fitted["pairs"] for fit in fits.values())
    about = f"Fitted on the verdicts on {reviewed} pairs."
    same = {task: other for task, other in SAME.items() if task not in fits and other in fits}
    return VerdictFit(fits, score_model(fits, about, same), scores)


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a row of `items` that a model may use."""
    return {name: float(row[name]) for name in DIRECTIONS if isinstance(row.get(name), (int, float))}


def _judged(pair: PairNumbers, error: float) -> Judged:
    votes = pair.accepts + pair.rejects
    share = (pair.accepts / votes - error) / (1 - 2 * error)
    return Judged(pair.numbers, min(1.0, max(0.0, share)), pair.source, float(votes))
