"""What injected defects tell: caught per kind, good pairs rejected, area under the score's curve; the score's fit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from benchmarks.defect_kinds import HELD_OUT
from ffpdata.core.config import load_pipeline
from ffpdata.curate.score_fit import Fit, Judged, auc, fit_task, score_model
from ffpdata.metrics.limits import Limit, beyond
from ffpdata.metrics.score import ScoreModel
from ffpdata.metrics.vector import VECTOR
from ffpdata.metrics.words import WORDS

GOOD = ("clean", "recoded")
CAUGHT, REJECTED, AUC = 0.90, 0.05, 0.95
"""Bounds: least share of defects caught, most of clean pairs rejected, least area under the score's curve, per task."""
PIPELINE_OF = {"local": "local_editing", "style": "stylization"}
DIRECTIONS = {metric.name: metric.better for metric in VECTOR} | dict.fromkeys(WORDS, "higher")
ABOUT = (
    "Fitted on injected defects in pairs of the sample scenes and of public clips, made by profile cpu, and not on "
    "people's verdicts: as many good pairs as bad ones, every kind of defect alike. "
    "`ffpdata calibrate RUN --out` fits verdicts."
)
SAME = {"swap": "modification", "text_removal": "removal"}

Rows = Sequence[Mapping[str, Any]]


def report(rows: Rows) -> int:
    """Print the tables; return 1 where a bound does not hold."""
    fits = fits_of(rows)
    failed = 0
    for task in sorted({row["task"] for row in rows}):
        mine = [row for row in rows if row["task"] == task]
        good, bad = [r for r in mine if r["kind"] in GOOD], [r for r in mine if r["kind"] not in GOOD]
        by_kind: dict[str, list[bool]] = defaultdict(list)
        for row in bad:
            by_kind[row["kind"]].append(why(row) is not None)
        print(f"\n{task}: {len(good)} good, {len(bad)} damaged, {len({r['source_id'] for r in mine})} sources")
        for kind, caught in by_kind.items():
            print(f"  {kind + (' *' if kind in HELD_OUT else ''):<18} {sum(caught):>3} of {len(caught)}")
        share = sum(map(sum, by_kind.values())) / max(1, len(bad))
        refused = [why(row) for row in good]
        lost = sum(r is not None for r in refused) / max(1, len(good))
        fit = fits.get(task)
        area = fit.reliability.auc if fit else float("nan")
        unseen = _held_out(rows, task)
        print(f"  caught {share:.1%} (bound {CAUGHT:.0%}), good ones rejected {lost:.1%} (bound {REJECTED:.0%})")
        print(
            f"  AUC of the score on sources left out {area:.3f} (bound {AUC}), on kinds not fitted on (*) {unseen:.3f}"
        )
        failed += share < CAUGHT or lost > REJECTED or not area >= AUC
    return int(failed > 0)


def why(row: Mapping[str, Any]) -> str | None:
    """Return why the present settings reject a pair; None where they accept it."""
    said = list(row["said"].values())
    if said:
        return str(said[0])
    numbers = row["numbers"]
    for stage, settings in settings_of(row["track"]).items():
        limits = {n: Limit(**limit) for n, limit in settings.get("limits", {}).get(row["task"], {}).items()}
        if found := beyond(limits, numbers):
            return found[0]
        score = numbers.get({"grade": "score"}.get(stage, f"{stage}_score"))
        if score is not None and score < settings.get("min_score", 0):
            return f"{stage}: {score:.2f}"
    return None


@lru_cache(maxsize=4)
def settings_of(track: str) -> dict[str, dict[str, Any]]:
    """Return the settings of the stages that judge pairs, by stage."""
    entries = load_pipeline(PIPELINE_OF[track]).stages
    return {entry.name: entry.settings for entry in entries if entry.name in {"measure", "screen", "verify", "grade"}}


def judged(rows: Rows, task: str, *, held_out: bool = False) -> list[Judged]:
    """Return the rows of a task for a fit: good and bad ones weigh the same together, and so do all kinds."""
    mine = [r for r in rows if r["task"] == task and (held_out or r["kind"] not in HELD_OUT)]
    counts: dict[str, int] = defaultdict(int)
    for row in mine:
        counts["good" if row["kind"] in GOOD else row["kind"]] += 1
    kinds = max(1, len(counts) - 1)
    found = []
    for row in mine:
        good = row["kind"] in GOOD
        weight = 0.5 / counts["good"] if good else 0.5 / kinds / counts[row["kind"]]
        found.append(Judged(row["numbers"], float(good), row["source_id"], weight * len(mine)))
    return found


def fits_of(rows: Rows) -> dict[str, Fit]:
    """Fit every task."""
    tasks = sorted({row["task"] for row in rows})
    return {task: fit for task in tasks if (fit := fit_task(judged(rows, task), DIRECTIONS))}


def fitted(rows: Rows) -> ScoreModel:
    """Return the models of all tasks."""
    return score_model(fits_of(rows), ABOUT, SAME)


def _held_out(rows: Rows, task: str) -> float:
    """Area under the curve of kinds that were not fitted on, against good pairs, of sources that were not either."""
    scores, good = [], []
    mine = [row for row in rows if row["task"] == task]
    for source in sorted({row["source_id"] for row in mine}):
        fit = fit_task(judged([r for r in mine if r["source_id"] != source], task), DIRECTIONS)
        if fit is None:
            continue
        for row in mine:
            if row["source_id"] == source and (row["kind"] in GOOD or row["kind"] in HELD_OUT):
                scores.append(fit.model.probability(row["numbers"]))
                good.append(row["kind"] in GOOD)
    found = auc(np.array(scores), np.array(good)) if scores else None
    return float("nan") if found is None else found
