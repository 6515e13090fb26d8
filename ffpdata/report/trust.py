"""How far accepted pairs can be trusted: precision per task, defects, thresholds, bands of the score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from ffpdata.core.pipeline import Pipeline
from ffpdata.curate import verdicts
from ffpdata.manifests.sql_text import literal
from ffpdata.metrics.score import DEFAULT, ScoreModel, default_score
from ffpdata.report.cascade import CONFIDENCE, Span, wilson

BANDS = ((0.0, 0.5), (0.5, 0.8), (0.8, 0.95), (0.95, 1.0))
"""Bands of the score in the gallery; the last one has its upper end in it."""
RESAMPLES = 1000
TOP_FAULTS = 8


@dataclass(frozen=True)
class Precision:
    """How many of a task's accepted pairs a person would accept.

    Attributes:
        task: of the pairs.
        pairs: accepted ones.
        expected: mean of their scores; None without scores.
        interval: of it, by a bootstrap over sources, widened by the calibration error of the score's model.
        judged: accepted pairs that reviewers judged.
        good: those of them that they accepted.
        about: what the score was fitted on.
    """

    task: str
    pairs: int
    expected: float | None
    interval: Span
    judged: int
    good: int
    about: str

    @property
    def judged_interval(self) -> Span:
        """Wilson's interval of the accepted share of the judged ones."""
        return wilson(self.good, self.judged)


@dataclass(frozen=True)
class Defect:
    """Edits that were made and then turned away for one reason: how many, by task."""

    stage: str
    reason: str
    tasks: dict[str, int]

    @property
    def count(self) -> int:
        """Of all tasks."""
        return sum(self.tasks.values())


@dataclass(frozen=True)
class Threshold:
    """A bound that decides over pairs: `side` is `min` or `max`."""

    task: str
    side: str
    value: float


def band(score: float | None) -> str:
    """Return the band of a score as text; empty without one."""
    if score is None:
        return ""
    low, high = next((ends for ends in BANDS if score < ends[1]), BANDS[-1])
    return f"{low:g} to {high:g}"


def precisions(
    connection: duckdb.DuckDBPyConnection, pipelines: Mapping[str, Pipeline], accepted: pa.Table
) -> list[Precision]:
    """Return the precision of every task.

    Args:
        connection: to the views of a run.
        pipelines: by track.
        accepted: accepted pairs with `task`, `source_id` and, where there is one, `score`.
    """
    models = [model for pipeline in pipelines.values() if (model := score_model(pipeline))]
    told = judged(connection, pipelines)
    rows = accepted.to_pylist()
    found: list[Precision] = []
    for task in sorted({str(row["task"]) for row in rows if row.get("task")}):
        mine = [row for row in rows if row["task"] == task]
        scored = [row for row in mine if row.get("score") is not None]
        by = next((one for one in models if one.of(task)), None)
        fitted = by.of(task) if by else None
        error = float((fitted.fitted if fitted else {}).get("calibration_error", 0.0))
        expected = float(np.mean([row["score"] for row in scored])) if scored else None
        counted, good = told.get(task, (0, 0))
        about = by.about if by else "not calibrated: the verifying model's own score"
        span = over_sources(scored, error) if scored else (0.0, 1.0)
        found.append(Precision(task, len(mine), expected, span, counted, good, about))
    return found


def over_sources(rows: Sequence[Mapping[str, Any]], error: float) -> Span:
    """Return the interval of the mean score, by a bootstrap over sources, wider by `error` at both ends."""
    by_source: dict[str, list[float]] = {}
    for row in rows:
        by_source.setdefault(str(row["source_id"]), []).append(float(row["score"]))
    sums = np.array([sum(scores) for scores in by_source.values()])
    counts = np.array([len(scores) for scores in by_source.values()])
    drawn = np.random.default_rng(0).integers(0, len(sums), (RESAMPLES, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return max(0.0, float(low) - error), min(1.0, float(high) + error)


def judged(connection: duckdb.DuckDBPyConnection, pipelines: Mapping[str, Pipeline]) -> dict[str, tuple[int, int]]:
    """Return task to the accepted pairs that reviewers judged, and those that most of them accepted."""
    current = verdicts.read(connection)
    found: dict[str, tuple[int, int]] = {}
    if not current or "task" not in connection.view("items").columns:
        return found
    for track, pipeline in pipelines.items():
        key = verdicts.last_key([entry.name for entry in pipeline.stages])
        query = f"select item_id, task, {key} from items where status = 'ok' and track = {literal(track)}"
        for item, task, last in connection.execute(query).fetchall():
            told = current.get(verdicts.pair_key(track, item, last or ""), {})
            said = [one.verdict for one in told.values() if one.verdict in (verdicts.ACCEPT, verdicts.REJECT)]
            if said:
                counted, good = found.get(task, (0, 0))
                found[task] = counted + 1, good + (said.count(verdicts.ACCEPT) * 2 > len(said))
    return found


def score_model(pipeline: Pipeline) -> ScoreModel | None:
    """Return the models by which a pipeline scores; None where it does not."""
    for entry in pipeline.stages:
        if entry.name == "grade":
            given = entry.settings.get("score", DEFAULT)
            return default_score() if given == DEFAULT else ScoreModel.model_validate(given)
    return None


def defects(connection: duckdb.DuckDBPyConnection) -> list[Defect]:
    """Return why edits that were made were turned away, the most frequent reason first."""
    items = connection.view("items")
    if not {"target_video", "task"} <= set(items.columns):
        return []
    rows = items.filter("status = 'rejected' and target_video is not null and stage <> 'curate'")
    found: dict[tuple[str, str], dict[str, int]] = {}
    for stage, reason, task, n in rows.aggregate("stage, reason, task, count(*) as n").order("n desc").fetchall():
        found.setdefault((stage, reason or "unknown"), {})[task or "unknown"] = n
    listed = [Defect(stage, reason, tasks) for (stage, reason), tasks in found.items()]
    return sorted(listed, key=lambda one: (-one.count, one.reason))


def faults(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Return what most often lowers the score of accepted pairs."""
    if "score_faults" not in connection.view("items").columns:
        return {}
    query = "select unnest(score_faults) as fault, count(*) as n from items where status = 'ok' group by 1"
    rows = connection.execute(f"{query} order by n desc, fault limit {TOP_FAULTS:d}").fetchall()
    return {str(fault): int(n) for fault, n in rows}


def thresholds(pipelines: Mapping[str, Pipeline]) -> dict[str, list[Threshold]]:
    """Return number to the bounds that the stages of a run set on it."""
    found: dict[str, list[Threshold]] = {}
    for pipeline in pipelines.values():
        for entry in pipeline.stages:
            if entry.name in ("measure", "grade"):
                for task, limits in (entry.settings.get("limits") or {}).items():
                    for name, ends in limits.items():
                        for side in ("min", "max"):
                            if (value := ends.get(side)) is not None:
                                found.setdefault(name, []).append(Threshold(task, side, float(value)))
            least = entry.settings.get("min_score")
            name = {"screen": "screen_score", "verify": "verify_score", "grade": "score"}.get(entry.name)
            if name and least:
                found.setdefault(name, []).append(Threshold("", "min", float(least)))
    return found
