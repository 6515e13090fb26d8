"""One start of a run: lock the folder, freeze the pipeline, list the input, run the stages, curate."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from ffpdata.core.config import Pipeline
from ffpdata.core.errors import UsageError, nearest
from ffpdata.core.stage import Item, Stage
from ffpdata.curate.curation import curate
from ffpdata.inputs.listing import list_inputs
from ffpdata.manifests.manifest import COMPACT_PARTS, ManifestWriter
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import CURATE, current, pairs, readable, records
from ffpdata.manifests.yields import YIELDS
from ffpdata.models.packaged.used import require
from ffpdata.models.settings import check
from ffpdata.runners.changes import changes
from ffpdata.runners.finished_work import FinishedWork, Redo
from ffpdata.runners.flow import Flow
from ffpdata.runners.inline import run_inline
from ffpdata.runners.interrupts import Stop
from ffpdata.runners.progress import PROGRESS_FILE, Progress
from ffpdata.runners.tables import status_text
from ffpdata.storage.lock import is_locked, run_lock
from ffpdata.storage.object_store import is_s3, outage_ends_run

STALE_SECONDS = 60.0
"""Where no lock shows whether a run goes on, a progress file older than this counts as that of a dead run."""


_SLOWEST = """
with few as (
    select number, min(s) as least from (
        select number, max(seconds) as s from _now group by number, entered
        qualify row_number() over (partition by number order by s desc) <= 3
    ) group by number
)
select stage, entered_id, max(seconds) as s from _now join few using (number) join _stages using (number)
where seconds >= least and seconds > 0
group by stage, entered_id qualify row_number() over (partition by stage order by s desc, entered_id) <= 3
order by s desc, entered_id
"""
"""The three slowest items of every stage, without reading the names of the other ones."""


@dataclass
class Status:
    """State of a run.

    Attributes:
        stages: per stage in order: `ok`, `rejected`, `failed`, `running` and `reasons` (reason to count); while the
            run goes on also `per_minute`, `eta_seconds` and `waiting`; `slowest` lists items with their seconds.
        pairs: finished pairs that curation keeps.
        yields: where a role has several back ends, the rows of the view `yields` of the edits that each made.
        pools: workers of the run that goes on now: the stages they serve, `workers`, `starting`, `busy` (0 to 1).
        computed: outcomes that a start computed, where this is its result.
    """

    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    pairs: int = 0
    yields: list[dict[str, Any]] = field(default_factory=list)
    pools: list[dict[str, Any]] = field(default_factory=list)
    computed: int | None = None

    def __str__(self) -> str:
        """The table of `ffpdata status`."""
        return status_text(self)

    @property
    def failed(self) -> int:
        """Items that failed, over all stages."""
        return sum(counts["failed"] for counts in self.stages.values())


@dataclass(frozen=True)
class StartOptions:
    """Options of a start.

    Attributes:
        runner: `inline` or `ray`.
        limit: take only the first so many entries of the input.
        stages: `a..b`, `a..` or `..b`: compute these stages alone.
        redo: which finished outcomes are computed again.
        quiet: show no progress.
    """

    runner: str = "inline"
    limit: int | None = None
    stages: str = ""
    redo: Redo | None = None
    quiet: bool = False


def start(run: RunFolder, pipeline: Pipeline, source: str, work: StartOptions | None = None) -> Status:
    """Run a pipeline on an input until every item ended, then curate the pairs.

    Raises:
        ConfigError: a model's entry in the profile is wrong.
        MissingModelError: a packaged network is not on this machine; nothing was begun.
        FatalError: the run cannot go on; what is finished is kept.
        RunLockedError: another process writes this folder.
        KeyboardInterrupt: SIGINT or SIGTERM; finished items are committed.
    """
    work = work or StartOptions()
    stages = pipeline.build()
    for spec in {role: spec for stage in stages for role, spec in stage.specs.items()}.values():
        check(spec)
    require(stages, pipeline.needs)
    only = stage_range(work.stages, [stage.name for stage in stages])
    with ExitStack() as stack:
        stack.enter_context(readable(run.store))
        stack.enter_context(outage_ends_run(run.store.root))
        items = list_inputs(source, pipeline.input, work.limit)
        lock = stack.enter_context(run_lock(run.store))
        stop = stack.enter_context(Stop())
        stop.guard = lock.check
        run.store.clean_temp()
        run.record_start(pipeline, source, work.limit, work.stages, built=stages, items=items)
        with (
            Progress(run.store, [stage.name for stage in stages], quiet=work.quiet) as progress,
            ManifestWriter(run.manifest, guard=lock.check) as writer,
        ):
            if pipeline.profile_told:
                progress.say(pipeline.profile_told)
            for name in run.manifest.stages():
                if merged := run.manifest.compact(name, COMPACT_PARTS):
                    progress.say(f"merged {merged} parts of the manifest of {name}")
            for line in changes(run.starts_of(pipeline.track), stages, {stages[number].name for number in only}):
                progress.say(f"changed: {line}")
            flow = make_flow(stages, items, writer, progress, track=pipeline.track, only=only, redo=work.redo)
            if work.runner == "ray":
                from ffpdata.runners.ray import run_ray

                run_ray(flow, run.store, stop, max_attempts=pipeline.max_attempts)
            else:
                run_inline(flow, run.store, stop, max_attempts=pipeline.max_attempts)
        lock.check()
        curate(run, guard=lock.check)
        run.store.clean_temp()
    result = status(run)
    result.computed = progress.computed
    return result


def make_flow(
    stages: Sequence[Stage],
    items: Sequence[Item],
    writer: ManifestWriter,
    progress: Progress,
    *,
    track: str,
    only: range | None = None,
    redo: Redo | None = None,
    passed: Any = None,
) -> Flow:
    """Set up the queues of a start; finished inputs stay out of them."""
    done = FinishedWork(stages, writer, track=track, redo=redo)
    left = done.unfinished(items)
    if done.lost:
        progress.say(f"parts of the manifest of {', '.join(done.lost)} are gone: every input is looked through again")
    if len(left) < len(items):
        progress.say(f"{len(items) - len(left)} of {len(items)} inputs finished already")
    return Flow(done, (items[number] for number in left), progress, only=only, passed=passed)


def stage_range(text: str, names: Sequence[str]) -> range:
    """Turn `a..b`, `a..`, `..b` or `a` into numbers of stages; the empty text means all."""
    if not text:
        return range(len(names))
    first, dots, last = text.partition("..")
    for name in (first, last):
        if name and name not in names:
            raise UsageError(f"--stages {text!r}: no stage {name!r}{nearest(name, names)}")
    begin = names.index(first) if first else 0
    end = names.index(last) if last else (len(names) - 1 if dots else begin)
    if end < begin:
        raise UsageError(f"--stages {text!r}: {last!r} comes before {first!r}. The order is {', '.join(names)}")
    return range(begin, end + 1)


def status(run: RunFolder) -> Status:
    """Count the rows that hold now, per stage; works while the run goes on."""
    tracks = run.tracks()
    order = [*dict.fromkeys(s for stages in tracks.values() for s in stages), CURATE]
    live = _live(run)
    result = Status(pools=live.get("pools", []))
    counted: dict[str, list[tuple[str, str | None, int]]] = {stage: [] for stage in order}
    slowest: dict[str, dict[str, float]] = {stage: {} for stage in order}
    with readable(run.store), current(run.store, tracks, idle=run.idle()) as connection:
        for stage, *found in connection.execute(
            "select stage, status, reason, count(*) as n from _now join _stages using (number) "
            "group by all order by n desc, reason"
        ).fetchall():
            counted[stage].append(tuple(found))
        for stage, entered, seconds in connection.execute(_SLOWEST).fetchall():
            slowest[stage][entered] = seconds
        result.pairs = pairs(connection, tracks, run.pair_makers(), run.idle())
    if any("/" in role for start in run.latest().values() for role in start["pipeline"].get("models", {})):
        with run.reading() as connection:
            result.yields = records(connection, f"from {YIELDS} where back_end is not null order by all")
    for stage in order:
        now = live.get("stages", {}).get(stage, {})
        counts: dict[str, Any] = {"ok": 0, "rejected": 0, "failed": 0, "running": now.get("running", 0), "reasons": {}}
        for state, reason, number in counted[stage]:
            counts[state] += number
            if reason:
                counts["reasons"][reason] = counts["reasons"].get(reason, 0) + number
        if now:
            counts |= {"waiting": now["total"] - now["done"] - now["running"]}
            counts |= {name: now[name] for name in ("per_minute", "eta_seconds")}
        result.stages[stage] = counts | {"slowest": slowest[stage]}
    return result


def _live(run: RunFolder) -> dict[str, Any]:
    """The progress file of the run that goes on now; empty where none does."""
    leased = run.store.local or is_s3(run.store.root)
    if leased and not is_locked(run.store):  # what a killed run left
        return {}
    try:
        state = dict(json.loads(run.store.read(PROGRESS_FILE)))
        return state if leased or time.time() - state["at"] < STALE_SECONDS else {}
    except (OSError, ValueError, KeyError):
        return {}
