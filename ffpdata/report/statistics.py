"""The statistics of a report: the funnel with its reasons, distributions, timings, and the choice of pairs to show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ffpdata.manifests.manifest import COMMON
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.sql_text import literal, quote
from ffpdata.manifests.views import CURATE
from ffpdata.manifests.yields import YIELDS
from ffpdata.report.cascade import Cascade, cascade
from ffpdata.report.costs import TrackCost, track_cost
from ffpdata.report.trust import BANDS, Defect, Precision, Threshold, defects, faults, precisions, thresholds
from ffpdata.stages.measure import METRICS

BINS = 18
TOP_OBJECTS = 10
MAX_HISTOGRAMS = 12
COUNTED = ("task", "object", "split")
JUDGED = ("score", "verify_score", "screen_score")
"""Scores whose distributions come first; after them what most items were rejected by."""

MOTION = ((0, "still, below 1"), (1, "slow, 1 to 3"), (3, "3 to 6"), (6, "6 to 12"), (12, "fast, from 12"))
"""`motion` of `measure`, grey levels: lower ends of the bands that pairs are counted in."""
AREA = ((0, "below 1 %"), (0.01, "1 to 3 %"), (0.03, "3 to 10 %"), (0.1, "10 to 25 %"), (0.25, "from 25 %"))
"""Mean part of the picture that the object covers, likewise."""


@dataclass(frozen=True)
class StageCounts:
    """Outcomes of one stage, counted in rows (each child of a fan-out counts)."""

    name: str
    entered: int
    passed: int
    rejected: int
    failed: int
    reasons: list[tuple[str, str, int]]
    """Status, reason and count; the most frequent first."""

    @property
    def rows(self) -> int:
        """Number of all rows."""
        return self.passed + self.rejected + self.failed


@dataclass(frozen=True)
class Histogram:
    """Distribution of one measure over accepted pairs, and over rejected and failed ones (`others`)."""

    name: str
    low: float
    high: float
    accepted: list[int]
    others: list[int]
    median: float | None
    limits: tuple[Threshold, ...] = ()
    """Bounds that decide over it and lie between its ends."""

    def place(self, value: float) -> float:
        """Return where a value lies between the ends, 0..1."""
        return (value - self.low) / (self.high - self.low)

    @property
    def top(self) -> int:
        """Count of the highest bar."""
        return max((a + b for a, b in zip(self.accepted, self.others, strict=True)), default=0)


@dataclass(frozen=True)
class Timing:
    """Seconds per item of one stage, and its total CPU seconds."""

    stage: str
    items: int
    median: float
    p95: float
    cpu_total: float


@dataclass(frozen=True)
class ModelYield:
    """What the edits of one model and task came to.

    Attributes:
        task: that was asked for.
        model: as the manifest names it.
        tried: edits that it was asked for.
        made: edits that it made.
        passed: stage to the edits that passed it; None where none came to it.
        accepted: pairs that curation keeps.
        seconds: time of all that it tried.
    """

    task: str
    model: str
    tried: int
    made: int
    passed: dict[str, int | None]
    accepted: int
    seconds: float

    @property
    def share(self) -> float:
        """Accepted pairs per edit that it tried."""
        return self.accepted / self.tried

    @property
    def cost(self) -> float | None:
        """Seconds of the model per accepted pair; None without one."""
        return self.seconds / self.accepted if self.accepted else None


@dataclass
class Numbers:
    """All numbers of a report."""

    inputs: int = 0
    sources: int = 0
    status: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)
    splits: dict[str, int] = field(default_factory=dict)
    motion: dict[str, int] = field(default_factory=dict)
    area: dict[str, int] = field(default_factory=dict)
    costs: dict[str, TrackCost] = field(default_factory=dict)
    cascades: dict[str, Cascade] = field(default_factory=dict)
    precisions: list[Precision] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    funnel: dict[str, list[StageCounts]] = field(default_factory=dict)
    yields: dict[str, list[ModelYield]] = field(default_factory=dict)
    histograms: list[Histogram] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        """Number of accepted pairs."""
        return self.status.get("ok", 0)

    @property
    def cpu_seconds(self) -> float:
        """CPU seconds of all current rows."""
        return sum(t.cpu_total for t in self.timings)


def collect(run: RunFolder, connection: duckdb.DuckDBPyConnection) -> Numbers:
    """Collect the numbers of a run.

    Args:
        run: the run.
        connection: to its views.
    """
    tracks = run.tracks()
    items = connection.view("items")
    measures = measure_names(connection)
    # The wide view joins every stage: it is read once.
    wanted = dict.fromkeys(("status", "track", *COUNTED, "source_id", "mask_area", *measures))
    columns = [name for name in wanted if name in items.columns]
    table = pa.table(items.project(", ".join(map(quote, columns))).to_arrow_table())
    good = pc.equal(table["status"], "ok")
    accepted = table.filter(good)
    task, objects, split = (_counts(accepted, name) for name in COUNTED)
    numbers = Numbers(
        status=_counts(table, "status"),
        tasks=task,
        objects=dict(list(objects.items())[:TOP_OBJECTS]),
        splits=split,
        sources=len(pc.unique(accepted["source_id"])),
    )
    pipelines = run.pipelines()
    numbers.motion, numbers.area = _bands(accepted, "motion", MOTION), _bands(accepted, "mask_area", AREA)
    numbers.precisions = precisions(connection, pipelines, accepted)
    numbers.defects, numbers.faults = defects(connection), faults(connection)
    bounds = thresholds(pipelines)
    for name in _telling(measures, numbers.defects)[:MAX_HISTOGRAMS]:
        values = table[name].cast(pa.float64()).to_numpy()
        known = ~np.isnan(values)
        if known.any():
            kept = good.to_numpy(zero_copy_only=False)
            found = histogram(name, values[known & kept], values[known & ~kept])
            inside = [one for one in bounds.get(name, ()) if found.low <= one.value <= found.high]
            numbers.histograms.append(replace(found, limits=tuple(dict.fromkeys(inside))))
    pairs_of = _counts(accepted, "track")
    for track, stages in tracks.items():
        cost = track_cost(connection, pipelines[track], stages, pairs_of.get(track, 0))
        numbers.costs[track] = cost
        if of_drafts := cascade(connection, track, stages, cost.rates):
            numbers.cascades[track] = of_drafts
        numbers.funnel[track] = [_stage(connection, track, stage) for stage in [*stages, CURATE]]
        if of_track := _yields(connection, track, stages):
            numbers.yields[track] = of_track
        numbers.inputs += numbers.funnel[track][0].entered
    order = list(dict.fromkeys(stage for stages in tracks.values() for stage in stages))
    numbers.timings = [t for stage in order if (t := _timing(connection, stage))]
    return numbers


def _telling(measures: Sequence[str], found: Sequence[Defect]) -> list[str]:
    """Order measures: the scores, what edits were rejected by, the others."""
    decided = [one.reason.removesuffix("_too_low").removesuffix("_too_high") for one in found]
    order = dict.fromkeys([*JUDGED, *decided, *measures])
    return [name for name in order if name in measures]


def _bands(table: pa.Table, column: str, bands: Sequence[tuple[float, str]]) -> dict[str, int]:
    """Count the values of a column in bands, each with its lower end and its name; empty where none is known."""
    if column not in table.column_names:
        return {}
    values = table[column].cast(pa.float64()).drop_null().to_numpy()
    places = np.searchsorted([low for low, _ in bands], values, side="right") - 1
    counts = {name: int((places == number).sum()) for number, (_, name) in enumerate(bands)}
    return counts if len(values) else {}


def pairs_to_show(connection: duckdb.DuckDBPyConnection, accepted: int, others: int) -> list[dict[str, Any]]:
    """Choose pairs that have a target: accepted ones evenly from tasks and bands of the score, others from reasons."""
    items = connection.view("items")
    if not {"source_video", "target_video"} <= set(items.columns):
        return []
    made = items.filter("source_video is not null and target_video is not null")
    ends = [low for low, _ in BANDS if low > 0]
    score = "score" if "score" in items.columns else "null::double"
    place = " + ".join(f"coalesce(({score} >= {low})::int, 0)" for low in ends)
    task = "coalesce(task, '')" if "task" in items.columns else "''"
    banded = made.filter("status = 'ok'").project(f"*, {task} || ' ' || ({place}) as shown_by")
    good = _sample(banded, "shown_by", accepted)
    bad = _sample(made.filter("status in ('rejected', 'failed')"), "reason", others)
    return sorted(good, key=lambda row: (str(row.get("task") or ""), row["item_id"])) + bad


def rejected_examples(connection: duckdb.DuckDBPyConnection, each: int, most: int) -> list[dict[str, Any]]:
    """Choose examples of rejected and failed items: up to `each` per stage and reason, `most` in total.

    Returns:
        Per stage and reason: `stage`, `status`, `reason`, `count` and `rows`; the most frequent first.
    """
    items = connection.view("items").filter("status in ('rejected', 'failed')")
    same = "over (partition by stage, status, reason"
    # Examples come from different sources where possible.
    turns = f"*, row_number() {same}, source_id order by md5(item_id)) as turn, count(*) {same}) as alike"
    sampled = items.project(turns).project(f"*, row_number() {same} order by turn, md5(item_id)) as chosen")
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in _rows(sampled.filter(f"chosen <= {each:d}").order("alike desc, stage, reason, chosen")):
        key = (row["stage"], row["status"], row["reason"])
        group = groups.setdefault(key, dict(zip(("stage", "status", "reason"), key, strict=True)) | {"rows": []})
        group["count"] = row["alike"]
        if most:
            group["rows"].append(row)
            most -= 1
    return list(groups.values())


def _rows(relation: duckdb.DuckDBPyRelation) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.table(relation.to_arrow_table()).to_pylist()
    return rows


def _sample(relation: duckdb.DuckDBPyRelation, column: str, limit: int) -> list[dict[str, Any]]:
    """Choose a sample by hash, taking the values of `column` in turn."""
    if limit <= 0 or column not in relation.columns:
        return []
    order = f"row_number() over (partition by {quote(column)} order by md5(item_id)) as chosen"
    rows = _rows(relation.project(f"*, {order}").filter(f"chosen <= {limit:d}").order("chosen"))
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[column], []).append(row)
    turns = chain.from_iterable(zip_longest(*(groups[name] for name in sorted(groups, key=str))))
    return [row for row in turns if row is not None][:limit]


def _counts(table: pa.Table, column: str) -> dict[str, int]:
    """Count the values of a column, the most frequent first, without unset ones."""
    if column not in table.column_names:
        return {}
    found = [(entry["values"], entry["counts"]) for entry in pc.value_counts(table[column].drop_null()).to_pylist()]
    return dict(sorted(found, key=lambda entry: (-entry[1], entry[0])))


def _stage(connection: duckdb.DuckDBPyConnection, track: str, stage: str) -> StageCounts:
    rows = connection.view(stage).filter(f"track = {literal(track)}")
    found = rows.aggregate("status, reason, count(*) as n").order("n desc, reason").fetchall()
    total = {status: sum(n for s, _, n in found if s == status) for status in ("ok", "rejected", "failed")}
    return StageCounts(
        name=stage,
        entered=rows.aggregate("count(distinct entered_id)").fetchall()[0][0],
        passed=total["ok"],
        rejected=total["rejected"],
        failed=total["failed"],
        reasons=[(status, reason or "unknown", n) for status, reason, n in found if status != "ok"],
    )


def _yields(connection: duckdb.DuckDBPyConnection, track: str, stages: Sequence[str]) -> list[ModelYield]:
    """What became of the edits of each model of a track."""
    rows = _rows(connection.view(YIELDS).filter(f"track = {literal(track)}").order("task, model"))
    later = [stage for stage in stages if any(row.get(stage) is not None for row in rows)]
    return [
        ModelYield(
            task=row["task"] or "",
            model=row["model"] or "",
            passed={stage: row[stage] for stage in later},
            **{name: row[name] for name in ("tried", "made", "accepted", "seconds")},
        )
        for row in rows
    ]


def _timing(connection: duckdb.DuckDBPyConnection, stage: str) -> Timing | None:
    # The rows of one fan-out share its time.
    once = connection.view(stage).aggregate("track, entered_id, max(seconds) as s, max(cpu_seconds) as cpu")
    found = once.aggregate("count(*), median(s), quantile_cont(s, 0.95), sum(cpu)").fetchall()
    items, median, p95, cpu = found[0]
    return Timing(stage, items, median or 0.0, p95 or 0.0, cpu or 0.0) if items else None


def measure_names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """List the measures of pairs in a run: the score, what models see of `measure`, `assess`, the rest."""
    names = [*JUDGED, *METRICS]
    views = {name for (name,) in connection.execute("select view_name from duckdb_views()").fetchall()}
    for stage in [name for name in ("assess", "measure") if name in views]:
        measure = connection.view(stage)
        kinds = zip(measure.columns, measure.types, strict=True)
        names += [name for name, kind in kinds if name not in COMMON.names and str(kind) == "DOUBLE"]
    present = connection.view("items").columns
    return [name for name in dict.fromkeys(names) if name in present]


def histogram(name: str, accepted: Sequence[float] | np.ndarray, others: Sequence[float] | np.ndarray) -> Histogram:
    """Bin values between their 1st and 99th percentile; those outside count in the outermost bins."""
    both = np.concatenate([np.asarray(accepted, float), np.asarray(others, float)])
    low, high = (float(v) for v in np.quantile(both, (0.01, 0.99)))
    if high <= low:
        low, high = low - 0.5, high + 0.5
    bins = [
        np.histogram(np.clip(np.asarray(part, float), low, high), BINS, (low, high))[0].tolist()
        for part in (accepted, others)
    ]
    median = float(np.median(np.asarray(accepted, float))) if len(accepted) else None
    return Histogram(name, low, high, bins[0], bins[1], median)


def facts(row: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, Any]]:
    """Return name and value of the columns that have a value; a column `*_facts` gives each entry of its JSON."""
    found: list[tuple[str, Any]] = []
    for name in names:
        value = row.get(name)
        if name.endswith("_facts") and isinstance(value, str):
            found += json.loads(value).items()
        elif value not in (None, "", []):
            found.append((name, value))
    return found
