"""What injected defects tell: caught per kind, good pairs rejected, area under the score's curve; the score's fit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from benchmarks.defect_kinds import HELD_OUT
from ffpdata.core.config import load_pipeline
from ffpdata.curate.score_fit import Judged, auc, fit_model, fit_task, parts, score_model
from ffpdata.curate.score_verdicts import DIRECTIONS as ALL
from ffpdata.curate.score_verdicts import SAME
from ffpdata.metrics.limits import Limit, beyond
from ffpdata.metrics.score import ScoreModel
from ffpdata.stages.grade import JUDGED

GOOD = ("clean", "recoded")
CAUGHT, REJECTED, AUC = 0.90, 0.05, 0.95
"""Bounds: least share of defects caught, most of clean pairs rejected, least area under the score's curve, per task."""
PIPELINE_OF = {"local": "local_editing", "style": "stylization"}
DIRECTIONS = {name: better for name, better in ALL.items() if name not in JUDGED}
"""The judge's scores are left out: what other judges give is another scale."""
ABOUT = (
    "Fitted on injected defects in pairs of the sample scenes and of public clips, made by profile cpu, and not on "
    "people's verdicts: as many good pairs as bad ones, every kind of defect alike. "
    "`ffpdata calibrate RUN --out` fits verdicts."
)

Rows = Sequence[Mapping[str, Any]]


def report(rows: Rows) -> int:
    """Print the tables; return 1 where a bound does not hold."""
    failed = 0
    for task in sorted({row["task"] for row in rows}):
        mine = [row for row in rows if row["task"] == task]
        scores = unseen_scores(mine, task)
        why = [rejection(row, score) for row, score in zip(mine, scores, strict=True)]
        good = np.array([row["kind"] in GOOD for row in mine])
        other = np.array([row["kind"] in HELD_OUT for row in mine])
        by_kind: dict[str, list[bool]] = defaultdict(list)
        for row, reason in zip(mine, why, strict=True):
            by_kind[row["kind"]].append(reason is not None)
        lost = [caught for kind in GOOD for caught in by_kind.pop(kind, [])]
        found = [caught for kind in by_kind for caught in by_kind[kind]]
        print(f"\n{task}: {len(lost)} good, {len(found)} damaged, {len({r['source_id'] for r in mine})} sources")
        for kind, caught in by_kind.items():
            print(f"  {kind + (' *' if kind in HELD_OUT else ''):<18} {sum(caught):>3} of {len(caught)}")
        share, refused = sum(found) / max(1, len(found)), sum(lost) / max(1, len(lost))
        known = np.isfinite(scores)
        area, unseen = (auc(scores[kept], good[kept]) or 0.0 for kept in (known & ~other, known & (good | other)))
        print(f"  caught {share:.1%} (bound {CAUGHT:.0%}), good ones rejected {refused:.1%} (bound {REJECTED:.0%})")
        print(
            f"  AUC of the score on sources left out {area:.3f} (bound {AUC}), on kinds not fitted on (*) {unseen:.3f}"
        )
        failed += share < CAUGHT or refused > REJECTED or area < AUC
    return int(failed > 0)


def rejection(row: Mapping[str, Any], score: float) -> str | None:
    """Return why the present settings reject a pair with this score; None where they accept it."""
    said = list(row["said"].values())
    if said:
        return str(said[0])
    numbers = row["numbers"] | {"grade_score": score}
    for stage, settings in settings_of(row["track"]).items():
        limits = {n: Limit(**limit) for n, limit in settings.get("limits", {}).get(row["task"], {}).items()}
        if found := beyond(limits, numbers):
            return found[0]
        if numbers.get(f"{stage}_score", np.inf) < settings.get("min_score", 0):
            return f"{stage}_score"
    return None


def unseen_scores(rows: Rows, task: str) -> np.ndarray:
    """Return the score of every row by a model that saw neither its source nor `HELD_OUT`; NaN without one."""
    scores = np.full(len(rows), np.nan)
    part = parts([row["source_id"] for row in rows])
    for number in np.unique(part):
        seen = [row for row, at in zip(rows, part, strict=True) if at != number]
        model = fit_model(judged(seen, task), DIRECTIONS)
        for n in np.flatnonzero(part == number):
            scores[n] = model.probability(rows[n]["numbers"]) if model else np.nan
    return scores


@lru_cache(maxsize=4)
def settings_of(track: str) -> dict[str, dict[str, Any]]:
    """Return the settings of the stages that judge pairs, by stage."""
    entries = load_pipeline(PIPELINE_OF[track]).stages
    return {entry.name: entry.settings for entry in entries if entry.name in {"measure", "screen", "verify", "grade"}}


def judged(rows: Rows, task: str) -> list[Judged]:
    """Return the rows of a task for a fit: good and bad ones weigh the same together, and so do all kinds."""
    mine = [row for row in rows if row["task"] == task and row["kind"] not in HELD_OUT]
    counts = Counter("good" if row["kind"] in GOOD else row["kind"] for row in mine)
    kinds = max(1, len(counts) - 1)
    found = []
    for row in mine:
        good = row["kind"] in GOOD
        weight = 0.5 / counts["good"] if good else 0.5 / kinds / counts[row["kind"]]
        found.append(Judged(row["numbers"], float(good), row["source_id"], weight * len(mine)))
    return found


def fitted(rows: Rows) -> ScoreModel:
    """Fit the models of all tasks."""
    tasks = sorted({row["task"] for row in rows})
    fits = {task: fit for task in tasks if (fit := fit_task(judged(rows, task), DIRECTIONS))}
    return score_model(fits, ABOUT, SAME)
