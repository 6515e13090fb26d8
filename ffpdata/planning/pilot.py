"""What a run measured of every stage, source by source: the material of a plan that rests on a pilot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from ffpdata.core.errors import UsageError, nearest
from ffpdata.core.pipeline import Pipeline
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.sql_text import literal, quote
from ffpdata.manifests.views import CURATE, records

COUNTED = (
    *("entered", "passed", "computed", "computed_passed", "seconds_passed", "seconds_lost", "cpu_seconds"),
    *("requests", "prompt_tokens", "completion_tokens", "written", "files_known", "attempts"),
)
"""Sums per source, stage and task. `entered` and `passed` count items. Items with the same question share one answer:
`computed` counts answers, and what these cost is divided among the items. `files_known` counts answers whose files have
a recorded size."""

Sums = NDArray[np.float64]
"""float64 (sources,)."""


@dataclass
class StageSums:
    """Sums of one stage and task over the items of each source.

    Attributes:
        sums: name of `COUNTED` to the sums.
        children: at a fan-out, task to the children.
        skipped: items that went past the stage, because it is not for them.
    """

    sums: dict[str, Sums]
    children: dict[str, Sums] = field(default_factory=dict)
    skipped: Sums = field(default_factory=lambda: np.zeros(0))


@dataclass
class Pilot:
    """One track of a run.

    Attributes:
        run: its folder.
        pipeline: of its newest start.
        sources: how many there are.
        stages: stage to task to its sums.
        curated: task to pairs that curation saw and kept, over the sources.
        file_bytes: mean size of the files of a column that were recorded.
        waiting: number of a stage to task to the items that wait for it.
        not_fed: inputs that no stage has seen.
        accepted: pairs that curation kept, so far.
        spread: stage to the coefficient of variation of its seconds.
    """

    run: RunFolder
    pipeline: Pipeline
    sources: int
    stages: dict[str, dict[str, StageSums]]
    curated: dict[str, tuple[Sums, Sums]]
    file_bytes: dict[str, float]
    waiting: dict[int, dict[str, int]]
    not_fed: int
    accepted: int
    spread: dict[str, float]

    @property
    def left(self) -> int:
        """Inputs and items that are not through yet."""
        return self.not_fed + sum(sum(tasks.values()) for tasks in self.waiting.values())


def read_pilot(run: RunFolder, track: str) -> Pilot:
    """Read the current rows of a track.

    Raises:
        UsageError: the run has no such track, or nothing of it has been computed.
        FatalError: the manifests cannot be read.
    """
    pipelines = run.pipelines()
    if track not in pipelines:
        raise UsageError(
            f"{run.store.root} has no track {track!r}{nearest(track, pipelines)}: plan from a run of the same pipeline"
        )
    with run.reading() as connection:
        return _Reader(run, pipelines[track], connection).read()


class _Reader:
    """Reads one track, stage after stage."""

    def __init__(self, run: RunFolder, pipeline: Pipeline, connection: duckdb.DuckDBPyConnection) -> None:
        self.run, self.pipeline, self.connection = run, pipeline, connection
        self.names = [entry.name for entry in pipeline.stages]
        self.mine = f"track = {literal(pipeline.track)}"
        self.places: dict[str, int] = {}
        """Source to its place in the sums."""
        self.planned = next((n for n, name in enumerate(self.names) if self._writes(name, "task")), len(self.names))

    def read(self) -> Pilot:
        self._note_items()
        rows = {name: self._sums(number, name) for number, name in enumerate(self.names)}
        children = {name: self._children(number) for number, name in enumerate(self.names)}
        if not rows or not any(rows.values()):
            raise UsageError(f"{self.run.store.root} has computed nothing of track {self.pipeline.track!r} yet")
        skipped = {name: self._skipped(number) for number, name in enumerate(self.names)}
        curated = records(
            self.connection,
            f"select {_SOURCE} as source, coalesce(t.task, '') as task, count(*) as seen, "
            f"count(*) filter (s.status = 'ok') as kept from (from {quote(CURATE)} where {self.mine}) s "
            f"left join plan_tasks t on t.item_id = s.entered_id group by all",
        )
        for found in (*rows.values(), *children.values(), *skipped.values(), curated):
            for row in found:
                self.places.setdefault(row["source"], len(self.places))
        return Pilot(
            run=self.run,
            pipeline=self.pipeline,
            sources=len(self.places),
            stages={name: self._stage(rows[name], children[name], skipped[name]) for name in self.names},
            curated=self._curated(curated),
            file_bytes=self._file_bytes(),
            waiting=self._waiting(),
            not_fed=self._not_fed(),
            accepted=sum(int(row["kept"]) for row in curated),
            spread=self._spread(),
        )

    def _writes(self, name: str, column: str) -> bool:
        return column in self.connection.view(name).columns

    def _note_items(self) -> None:
        """Make `plan_tasks`, the task of every item that has one, and `plan_rows`, where every item has a row."""
        tasks = ["select null::varchar as item_id, null::varchar as task where false"]
        if self.planned < len(self.names):
            name = quote(self.names[self.planned])
            tasks.append(f"select item_id, task from {name} where {self.mine} and status = 'ok'")
        self.connection.execute(f"create temp table plan_tasks as {' union all '.join(tasks)}")
        rows = [
            f"select {number} as number, entered_id, item_id, status, {_SOURCE_PLAIN} as source from {quote(name)} "
            f"where {self.mine}"
            for number, name in enumerate(self.names)
        ]
        self.connection.execute(f"create temp table plan_rows as {' union all '.join(rows)}")
        for number in range(self.planned + 1, len(self.names)):  # children of later fan-outs have their parent's task
            self.connection.execute(
                "insert into plan_tasks select distinct r.item_id, t.task from plan_rows r "
                f"join plan_tasks t on t.item_id = r.entered_id where r.number = {number} "
                "and r.item_id <> r.entered_id and r.status = 'ok' "
                "and r.item_id not in (select item_id from plan_tasks)"
            )

    def _sums(self, number: int, name: str) -> list[dict[str, Any]]:
        """Sums over the items of each source and task. The rows of one fan-out share its time and its notes."""
        task = "coalesce(t.task, '')" if number > self.planned else "''"
        tokens = ", ".join(
            f"list_sum(cast(json_extract(any_value(s.notes), '$.*.{column}') as double[])) as {column}"
            for column in ("requests", "prompt_tokens", "completion_tokens")
        )
        once = (
            f"select any_value({_SOURCE}) as source, any_value({task}) as task, any_value(s.status) as status, "
            "max(s.seconds) as seconds, max(s.cpu_seconds) as cpu, max(s.attempt) as attempt, "
            f"sum({_BYTES}) as written, bool_or(s.artifacts is not null) as known, min(s.key) as key, {tokens} "
            f"from (from {quote(name)} where {self.mine}) s left join plan_tasks t on t.item_id = s.entered_id "
            "group by s.entered_id"
        )
        shared = f"select *, 1.0 / count(*) over (partition by key) as share from ({once})"
        return records(
            self.connection,
            "select source, task, count(*) as entered, count(*) filter (status = 'ok') as passed, "
            "sum(share) as computed, sum(share) filter (status = 'ok') as computed_passed, "
            "sum(share * seconds) filter (status = 'ok') as seconds_passed, "
            "sum(share * seconds) filter (status <> 'ok') as seconds_lost, sum(share * cpu) as cpu_seconds, "
            "sum(share * requests) as requests, sum(share * prompt_tokens) as prompt_tokens, "
            "sum(share * completion_tokens) as completion_tokens, "
            "sum(share * written) filter (status = 'ok') as written, "
            "sum(share) filter (known and status = 'ok') as files_known, sum(attempt) as attempts "
            f"from ({shared}) group by source, task",
        )

    def _children(self, number: int) -> list[dict[str, Any]]:
        """Children of the items of a fan-out by their task; empty where it is none."""
        inherited = "coalesce(p.task, '')" if number > self.planned else "''"
        child = "t.task" if number == self.planned else inherited
        return records(
            self.connection,
            f"select s.source, coalesce(p.task, '') as task, {child} as child, count(*) as n from plan_rows s "
            "left join plan_tasks p on p.item_id = s.entered_id left join plan_tasks t on t.item_id = s.item_id "
            f"where s.number = {number} and s.status = 'ok' and s.item_id <> s.entered_id group by all",
        )

    def _skipped(self, number: int) -> list[dict[str, Any]]:
        """Items that came past a stage without a row there."""
        task = "coalesce(t.task, '')" if number > self.planned else "''"
        return records(
            self.connection,
            f"select source, {task} as task, count(*) as n from "
            f"(select distinct item_id, source from plan_rows where number < {number} and status = 'ok') a "
            "left join plan_tasks t using (item_id) "
            f"where item_id in (select entered_id from plan_rows where number > {number}) "
            f"and item_id not in (select entered_id from plan_rows where number = {number}) group by all",
        )

    def _stage(
        self,
        rows: Sequence[Mapping[str, Any]],
        children: Sequence[Mapping[str, Any]],
        skipped: Sequence[Mapping[str, Any]],
    ) -> dict[str, StageSums]:
        def empty() -> StageSums:
            return StageSums({name: self._zeros() for name in COUNTED}, {}, self._zeros())

        found: dict[str, StageSums] = defaultdict(empty)
        for row in rows:
            for name in COUNTED:
                found[row["task"]].sums[name][self.places[row["source"]]] += float(row[name] or 0.0)
        for row in children:
            of_task = found[row["task"]].children
            of_task.setdefault(row["child"], self._zeros())[self.places[row["source"]]] += row["n"]
        for row in skipped:
            found[row["task"]].skipped[self.places[row["source"]]] += row["n"]
        return dict(found)

    def _zeros(self) -> Sums:
        return np.zeros(len(self.places))

    def _curated(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, tuple[Sums, Sums]]:
        found: dict[str, tuple[Sums, Sums]] = {}
        for row in rows:
            seen, kept = found.setdefault(row["task"], (self._zeros(), self._zeros()))
            seen[self.places[row["source"]]] += row["seen"]
            kept[self.places[row["source"]]] += row["kept"]
        return found

    def _file_bytes(self) -> dict[str, float]:
        """Mean bytes of the recorded files of each column."""
        found: dict[str, list[float]] = defaultdict(list)
        for name in self.names:
            rows = records(
                self.connection,
                "select key as column, avg(cast(json_extract(artifacts, '$.' || key || '.bytes') as double)) as bytes, "
                "count(*) as n from (select unnest(json_keys(artifacts)) as key, artifacts "
                f"from {quote(name)} where {self.mine} and artifacts is not null) k group by 1",
            )
            for row in rows:
                found[row["column"]] += [float(row["bytes"] or 0.0)] * int(row["n"])
        return {column: float(np.mean(sizes)) for column, sizes in found.items()}

    def _waiting(self) -> dict[int, dict[str, int]]:
        """Items that passed a stage and have no row at a later one."""
        last = len(self.names) - 1
        rows = records(
            self.connection,
            "select number, coalesce(t.task, '') as task, count(*) as n from "
            f"(select item_id, max(number) as number from plan_rows where status = 'ok' and number < {last} "
            "group by item_id) a left join plan_tasks t using (item_id) where not exists ("
            "select 1 from plan_rows r where r.entered_id = a.item_id and r.number > a.number) group by all",
        )
        found: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for row in rows:
            found[int(row["number"]) + 1][row["task"]] += int(row["n"])
        return {number: dict(tasks) for number, tasks in found.items()}

    def _not_fed(self) -> int:
        entries = self.run.latest()[self.pipeline.track].get("entries") or {}
        query = "select count(distinct entered_id) as n from plan_rows where number = 0"
        [seen] = records(self.connection, query)
        return max(0, int(entries.get("count", 0)) - int(seen["n"]))

    def _spread(self) -> dict[str, float]:
        """Standard deviation of a stage's seconds over their mean, of items that passed."""
        found = {}
        for name in self.names:
            query = f"select stddev_samp(seconds) as sd, avg(seconds) as mean from {quote(name)} where {self.mine} "
            [row] = records(self.connection, query + "and status = 'ok'")
            found[name] = float(row["sd"] or 0.0) / float(row["mean"]) if row["mean"] else 0.0
        return found


_SOURCE_PLAIN = "coalesce(nullif(source_id, ''), entered_id)"
_SOURCE = "coalesce(nullif(s.source_id, ''), s.entered_id)"
_BYTES = "list_sum(cast(json_extract(s.artifacts, '$.*.bytes') as double[]))"
