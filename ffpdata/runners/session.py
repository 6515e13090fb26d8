"""One start of a run: lock the folder, freeze the pipeline, list the input, run the stages, curate."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ffpdata.core.config import Pipeline
from ffpdata.core.inputs import list_inputs
from ffpdata.core.lock import is_locked, run_lock
from ffpdata.core.manifest import COMPACT_PARTS, ManifestWriter
from ffpdata.core.run import RunFolder
from ffpdata.core.views import CURATE, quote, records
from ffpdata.curate import curate
from ffpdata.runners.inline import run_inline
from ffpdata.runners.ledger import Redo
from ffpdata.runners.progress import PROGRESS_FILE, Progress


@dataclass
class Status:
    """Where a run stands.

    Attributes:
        stages: per stage in order: `ok`, `rejected`, `failed`, `running` and `reasons` (reason to count).
        pairs: finished pairs that curation keeps.
    """

    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    pairs: int = 0

    @property
    def failed(self) -> int:
        """Items that failed, over all stages."""
        return sum(counts["failed"] for counts in self.stages.values())


def start(
    run: RunFolder,
    pipeline: Pipeline,
    source: str,
    *,
    limit: int | None = None,
    quiet: bool = False,
    redo: Redo | None = None,
) -> Status:
    """Run a pipeline on an input until every item ended, and curate what came out.

    Raises:
        FatalError: the run cannot go on; what is finished is kept.
        RunLockedError: another process writes this folder.
        KeyboardInterrupt: SIGINT or SIGTERM; finished items are committed.
    """
    stages = pipeline.build()
    items = list_inputs(source, pipeline.input, limit)
    with run_lock(run.store), _interruptible():
        run.store.clean_temp()
        run.record_start(pipeline, source, limit)
        for stage in run.manifest.stages():
            run.manifest.compact(stage, COMPACT_PARTS)
        with Progress(run.store, quiet=quiet) as progress, ManifestWriter(run.manifest) as writer:
            run_inline(
                stages,
                items,
                run.store,
                writer,
                progress,
                track=pipeline.track,
                max_attempts=pipeline.max_attempts,
                redo=redo,
            )
        curate(run)
        run.store.clean_temp()
    return status(run)


def status(run: RunFolder) -> Status:
    """Count the rows that hold now, per stage; works while the run goes on."""
    connection = run.connect()
    tracks = run.tracks()
    order = list(dict.fromkeys([s for stages in tracks.values() for s in stages]))
    running = _running(run)
    result = Status()
    for stage in [*order, CURATE]:
        counts: dict[str, Any] = {"ok": 0, "rejected": 0, "failed": 0, "running": running.get(stage, 0), "reasons": {}}
        rows = records(
            connection, f"select status, reason, count(*) as n from {quote(stage)} group by all order by n desc, reason"
        )
        for row in rows:
            counts[row["status"]] += row["n"]
            if row["reason"]:
                counts["reasons"][row["reason"]] = counts["reasons"].get(row["reason"], 0) + row["n"]
        result.stages[stage] = counts
    result.pairs = records(connection, "select count(*) as n from items where status = 'ok'")[0]["n"]
    connection.close()
    return result


def _running(run: RunFolder) -> Mapping[str, int]:
    import json

    if not (run.store.local and is_locked(run.store) and run.store.exists(PROGRESS_FILE)):
        return {}
    try:
        return dict(json.loads(run.store.read(PROGRESS_FILE))["running"])
    except (ValueError, KeyError, FileNotFoundError):
        return {}


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does: what is finished is committed first."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
