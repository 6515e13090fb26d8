"""Executes one stage on one item: the same code in every runner, in this process or on a worker.

Order of commit: the stage's files get their final names, then the outcome record is written beside them, then the
runner commits the manifest rows. So a kill at any instant leaves no row without its artifact, and an outcome whose rows
were lost is read from its record instead of being computed again.
"""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

from ffpdata.core.errors import FatalError, Reject, RetryableError, disk_unusable
from ffpdata.core.keys import child_key
from ffpdata.core.stage import Artifact, Child, Item, Row, Stage
from ffpdata.inputs.locations import fetch_input
from ffpdata.manifests.manifest import worker_label
from ffpdata.processes.turns import clock, computing, file_work
from ffpdata.runners.cpu_shares import CpuShares
from ffpdata.runners.task import Outcome, Task
from ffpdata.storage.digests import file_facts
from ffpdata.storage.store import Store

RECORD_SECONDS = 0.2
"""A stage without artifacts that took this long gets an outcome record too, so that it is not computed twice."""

RETRY_SECONDS = 1.0
"""Wait before the second attempt after a RetryableError; doubled each time."""

_cpu_shares = CpuShares()


def execute(
    stage: Stage,
    item: Item,
    store: Store,
    *,
    key: str = "",
    attempt: int = 0,
    max_attempts: int = 3,
    adopt: bool = True,
) -> Outcome:
    """Run a stage on an item and commit its files.

    Whatever goes wrong with the item is in the outcome; only FatalError is raised.

    Args:
        stage: set up already.
        item: the row that enters.
        store: the run folder.
        key: the item's content key, where the caller has it.
        attempt: how often the item was tried before.
        max_attempts: how often a RetryableError is tried in all.
        adopt: return the outcome of the key's record, where there is one with all its files as they were written.
    """
    key = key or stage.key_of(item.values)
    outcome = Outcome(
        status="failed",
        key=key,
        started_at=time.time(),
        worker=worker_label(),
        model=", ".join(stage.specs[role].label for role in stage.roles(item.values) if role in stage.specs),
    )
    notes: dict[str, Any] = {}
    start = clock()
    with _cpu_shares.item() as cpu:
        for tries in range(1, max_attempts + 1):
            outcome.attempt = attempt + tries
            try:
                if adopt and (found := Outcome.load(store, key)) and not found.damaged(stage, store):
                    return found
                outcome.children, outcome.artifacts = _call(stage, item, key, store, notes)
                outcome.status, outcome.reason, outcome.error = "ok", "", ""
                break
            except Reject as err:
                outcome.status, outcome.reason, outcome.error = "rejected", err.reason, err.detail
                outcome.facts = _measured(stage, err.facts)
                break
            except FatalError:
                raise
            except RetryableError as err:
                outcome.reason, outcome.error = "gave_up", f"{err} (tried {tries} times)"
                if tries < max_attempts:
                    time.sleep(RETRY_SECONDS * 2 ** (tries - 1))
            except MemoryError:
                outcome.reason, outcome.error = "out_of_memory", traceback.format_exc()
                break
            except (Exception, SystemExit) as err:  # an exception belongs to its item
                if disk_unusable(err):
                    where = err.filename or store.root
                    raise FatalError(
                        f"{where}: {err.strerror}. Free some space or make it writable, then start again."
                    ) from err
                outcome.reason, outcome.error = type(err).__name__, traceback.format_exc()
                break
    outcome.notes = json.loads(json.dumps(notes, default=str))  # a note that JSON cannot hold must not fail the item
    outcome.seconds = round(clock() - start, 4)
    outcome.cpu_seconds = round(cpu.seconds, 4)
    files = any(isinstance(kind, Artifact) for kind in stage.writes.values())
    if outcome.status != "failed" and (files or outcome.seconds >= RECORD_SECONDS):
        with suppress(RetryableError):  # the row alone is enough
            outcome.save(store)
    return outcome


def execute_task(stage: Stage, task: Task, store: Store, max_attempts: int) -> Outcome:
    """`execute` for a task of a run."""
    return execute(
        stage,
        task.seen or task.item,
        store,
        key=task.key,
        attempt=task.attempt,
        max_attempts=max_attempts,
        adopt=task.adopt,
    )


def _call(
    stage: Stage, item: Item, key: str, store: Store, notes: dict[str, Any]
) -> tuple[list[Child], dict[str, dict[str, Any]]]:
    """Call the stage and commit its files; returns what goes on, and of each file what is recorded of it."""
    temps: list[Path] = []

    def new_file(column: str, child: str) -> Path:
        kind = stage.writes.get(column)
        if not isinstance(kind, Artifact):
            raise KeyError(f"stage {stage.name!r} writes no artifact {column!r}: declare it in `writes`")
        temps.append(store.temp_file(f"{column}{'-' + child.replace('/', '-') if child else ''}.{kind.ext}"))
        return temps[-1]

    seen = {name: item.values[name] for name in (*stage.reads, *stage.uses) if name in item.values}
    stack = ExitStack()
    held = stack.enter_context(store.hold())
    fetch: Callable[[str], Path] = partial(store.fetch, in_use=held)
    row = Row(
        seen,
        item_id=item.item_id,
        open_file=fetch if store.local else file_work()(fetch),  # a local path is at hand
        new_file=new_file,
        open_input=file_work()(partial(fetch_input, in_use=held)),
    )
    try:
        files: dict[str, dict[str, Any]] = {}
        if not stage.fan_out:
            with computing():
                columns = stage.process(row)
            return [Child("", _commit(stage, columns, key, store, files))], files
        with computing():
            children = stage.expand(row)
        if not children:
            raise ValueError(f"stage {stage.name!r} expanded {item.item_id!r} into nothing: raise Reject with a reason")
        suffixes = [child.suffix for child in children]
        if len(set(suffixes)) != len(suffixes):
            raise ValueError(f"stage {stage.name!r} expanded {item.item_id!r} into children of one name: {suffixes}")
        made = []
        for child in children:
            placed = _commit(stage, child.columns, child_key(key, child.suffix), store, files)
            made.append(Child(child.suffix, placed, child.source_id))
        return made, files
    finally:
        notes |= row.notes
        stack.close()
        for temp in temps:
            temp.unlink(missing_ok=True)


def _commit(
    stage: Stage, columns: Mapping[str, Any], key: str, store: Store, files: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Give the files among `columns` their final names, record them in `files`, and return the columns as values."""
    placed = dict(columns)
    for name, value in columns.items():
        kind = stage.writes.get(name)
        if isinstance(kind, Artifact) and isinstance(value, Path):
            final = f"artifacts/{name}/{key[:2]}/{key}.{kind.ext}"
            files[final] = file_facts(value)  # now, because it was just written and need not be read from the disk
            store.commit(value, final)
            placed[name] = final
    return _columns(stage, placed)


def _columns(stage: Stage, columns: Mapping[str, Any]) -> dict[str, Any]:
    """Check a stage's answer against what it declares and turn it into plain Python values."""
    unknown = sorted(set(columns) - set(stage.writes))
    if unknown:
        raise KeyError(f"stage {stage.name!r} returned the columns {unknown}, which its `writes` does not declare")
    return {name: _plain(name, value) for name, value in columns.items() if value is not None}


def _measured(stage: Stage, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Columns of a rejected row: facts under a column's name, and all others in the stage's column for facts."""
    own = {name: value for name, value in facts.items() if name in stage.writes}
    others = {name: value for name, value in facts.items() if name not in stage.writes}
    return _columns(stage, own | ({stage.facts_column: others} if stage.facts_column and others else {}))


def _plain(name: str, value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(k): _plain(f"{name}.{k}", v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(name, v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"column {name!r} is {value!r}: a manifest holds finite numbers, leave an unknown one out")
    return value
