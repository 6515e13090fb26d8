"""One stage on one item: the same code in every runner, in this process or on a worker.

Order of commit: the stage's files get their final names, then an outcome record is written beside them, then the caller
commits the manifest rows. So a kill at any instant leaves no row without its artifact, and an outcome whose rows were
lost is adopted by its key instead of being computed again.
"""

from __future__ import annotations

import json
import math
import resource
import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from ffpdata.core.errors import FatalError, Reject, RetryableError, disk_unusable
from ffpdata.core.keys import child_key, row_key
from ffpdata.core.stage import Artifact, Child, Item, Row, Stage
from ffpdata.inputs.locations import fetch_input
from ffpdata.manifests.manifest import encode, worker_label
from ffpdata.storage.store import Store

RECORD_SECONDS = 0.2
"""A stage without artifacts that took so long gets an outcome record too: it is too dear to be done twice."""

RETRY_SECONDS = 1.0
"""Wait before the second attempt after a RetryableError; doubled each time."""


@dataclass
class Outcome:
    """What became of one item at one stage.

    Attributes:
        status: `ok`, `rejected` or `failed`.
        children: the rows that go on: one per child of a fan-out, one otherwise, none unless `ok`.
        facts: columns of a rejected row that were measured before the decision.
        notes: what the stage noted of its work (`Row.notes`).
    """

    status: str
    key: str
    reason: str = ""
    error: str = ""
    children: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    attempt: int = 1
    started_at: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    worker: str = ""
    model: str = ""
    notes: dict[str, Any] = field(default_factory=dict)


def stage_key(stage: Stage, item: Item) -> str:
    """Content key of an item at a stage."""
    roles = stage.roles(item.values)
    return row_key(stage.fixed_key(roles), stage.reads, item.values)


def record_path(key: str) -> str:
    """Where the outcome record of a key lies."""
    return f"artifacts/outcome/{key[:2]}/{key}.json"


def execute(
    stage: Stage, item: Item, store: Store, *, key: str = "", max_attempts: int = 3, adopt: bool = True
) -> Outcome:
    """Run a stage on an item and commit its files.

    Everything that goes wrong with the item is in the outcome; only FatalError is raised.

    Args:
        stage: set up already.
        item: the row that enters.
        store: the run folder.
        key: the item's key where the caller has it.
        max_attempts: how often a RetryableError is tried in all.
        adopt: take over a finished outcome of this key, if there is one.
    """
    key = key or stage_key(stage, item)
    outcome = Outcome(
        status="failed",
        key=key,
        started_at=time.time(),
        worker=worker_label(),
        model=", ".join(stage.specs[role].label for role in stage.roles(item.values) if role in stage.specs),
    )
    notes: dict[str, Any] = {}
    start, cpu = time.perf_counter(), _cpu()
    for tries in range(1, max_attempts + 1):
        outcome.attempt = item.attempt + tries
        try:
            if adopt and (found := _adopt(stage, store, key)) is not None:
                return found
            outcome.children = _call(stage, item, key, store, notes)
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
    outcome.notes = json.loads(json.dumps(notes, default=str))  # whatever it is, it costs no answer
    outcome.seconds = round(time.perf_counter() - start, 4)
    outcome.cpu_seconds = round(_cpu() - cpu, 4)
    files = any(isinstance(kind, Artifact) for kind in stage.writes.values())
    if outcome.status != "failed" and (files or outcome.seconds >= RECORD_SECONDS):
        with suppress(RetryableError):  # without a record the outcome holds all the same: its row is still to come
            store.write(record_path(key), json.dumps(vars(outcome), sort_keys=True).encode())
    return outcome


def manifest_rows(stage: Stage, item: Item, outcome: Outcome, track: str) -> list[dict[str, Any]]:
    """Manifest rows of an outcome: one per child, or one for the item that was rejected or failed."""
    base = {
        "entered_id": item.item_id,
        "track": track,
        "stage": stage.name,
        "key": outcome.key,
        "upstream": item.upstream,
        "status": outcome.status,
        "reason": outcome.reason or None,
        "error": outcome.error or None,
        "attempt": outcome.attempt,
        "started_at": datetime.fromtimestamp(outcome.started_at, UTC),
        "seconds": outcome.seconds,
        "cpu_seconds": outcome.cpu_seconds,
        "worker": outcome.worker,
        "model": outcome.model or None,
        "notes": json.dumps(outcome.notes, sort_keys=True) if outcome.notes else None,
    }
    if outcome.status != "ok":
        own = encode(outcome.facts, stage.writes)
        return [base | own | {"item_id": item.item_id, "parent_id": item.parent_id, "source_id": item.source_id}]
    rows = []
    for child in next_items(stage, item, outcome):
        own = {name: child.values[name] for name in stage.writes if child.values.get(name) is not None}
        ids = {"item_id": child.item_id, "parent_id": child.parent_id, "source_id": child.source_id}
        rows.append(base | encode(own, stage.writes) | ids)
    return rows


def next_items(stage: Stage, item: Item, outcome: Outcome) -> list[Item]:
    """The items that go on to the next stage."""
    items = []
    for child in outcome.children:
        # A stage's own columns replace what an earlier stage wrote there, also when it leaves them unset.
        values = {k: v for k, v in item.values.items() if k not in stage.writes} | child["columns"]
        item_id, parent_id, source_id = item.item_id, item.parent_id, item.source_id
        if stage.fan_out:
            parent_id = item.item_id
            source_id = child["source_id"] or item.source_id
            item_id = child["suffix"] if child["source_id"] else f"{item.item_id}/{child['suffix']}"
        items.append(Item(item_id, values, parent_id, source_id, upstream=outcome.key, origin=item.origin))
    return items


def _call(stage: Stage, item: Item, key: str, store: Store, notes: dict[str, Any]) -> list[dict[str, Any]]:
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
    row = Row(
        seen,
        item_id=item.item_id,
        open_file=partial(store.fetch, in_use=held),
        new_file=new_file,
        open_input=partial(fetch_input, in_use=held),
    )
    try:
        if not stage.fan_out:
            return [{"suffix": "", "source_id": "", "columns": _commit(stage, stage.process(row), key, store)}]
        children = stage.expand(row)
        if not children:
            raise ValueError(f"stage {stage.name!r} expanded {item.item_id!r} into nothing: raise Reject with a reason")
        suffixes = [child.suffix for child in children]
        if len(set(suffixes)) != len(suffixes):
            raise ValueError(f"stage {stage.name!r} expanded {item.item_id!r} into children of one name: {suffixes}")
        return [
            {
                "suffix": child.suffix,
                "source_id": child.source_id,
                "columns": _commit(stage, child.columns, child_key(key, child.suffix), store),
            }
            for child in children
        ]
    finally:
        notes |= row.notes
        stack.close()
        for temp in temps:
            temp.unlink(missing_ok=True)


def _commit(stage: Stage, columns: Mapping[str, Any], key: str, store: Store) -> dict[str, Any]:
    """Give the files among `columns` their final names and return the columns as plain values."""
    placed = dict(columns)
    for name, value in columns.items():
        kind = stage.writes.get(name)
        if isinstance(kind, Artifact) and isinstance(value, Path):
            final = f"artifacts/{name}/{key[:2]}/{key}.{kind.ext}"
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


def _adopt(stage: Stage, store: Store, key: str) -> Outcome | None:
    """The finished outcome of a key, where its record and all its files are there."""
    try:
        found = Outcome(**json.loads(store.read(record_path(key))))
    except (FileNotFoundError, ValueError, TypeError):  # none, or one of another release
        return None
    return None if lost_files(stage, found, store) else found


def lost_files(stage: Stage, outcome: Outcome, store: Store) -> list[str]:
    """Artifacts of an outcome that are no longer in the run folder."""
    kinds = [name for name, kind in stage.writes.items() if isinstance(kind, Artifact)]
    paths = {child["columns"].get(name) for child in outcome.children for name in kinds}
    return sorted(path for path in paths if path and not store.exists(path))


def _cpu() -> float:
    """CPU seconds of this process and of the child processes it has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + usage.ru_utime + usage.ru_stime


__all__ = ["Child", "Outcome", "execute", "manifest_rows", "next_items", "record_path", "stage_key"]
