"""What is done already: the outcomes of one stage by key, and which items still wait.

Done means: a row with the item's key exists and is `ok` or `rejected`. Whose row it was does not matter, because equal
keys are equal questions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ffpdata.manifests.manifest import COMMON, MANIFESTS, Manifest, decode
from ffpdata.manifests.views import ROW_BITS, ROW_MASK, literal, narrow, reader, stream
from ffpdata.runners.execute import Outcome
from ffpdata.storage.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OUTCOME_COLUMNS = tuple(name for name in COMMON.names if name not in {"parent_id", "track", "stage", "upstream"})

SLICE_ROWS = 750_000
"""Items that `not_done` looks up at a time: about 100 MB."""


def not_done(connection: duckdb.DuckDBPyConnection, store: Store, stage: str, wanted: pa.Table) -> pa.Table:
    """Return the rows of `wanted` whose key no finished row of the stage has, in no particular order.

    Args:
        connection: any DuckDB connection that can read the store.
        store: the run folder.
        stage: name of the stage.
        wanted: columns `item_id` and `key`, and any others.
    """
    if not Manifest(store).parts(stage):
        return wanted
    connection.register("_wanted", wanted)
    source = literal(store.url(f"{MANIFESTS}/{stage}/*.parquet"))
    slices = -(-wanted.num_rows // SLICE_ROWS)
    found = []
    for number in range(slices):  # in slices by key, because the join holds all keys of a slice in memory
        mine = f"hash(key) % {slices} = {number}"
        done = f"(select key from read_parquet({source}) where status in ('ok', 'rejected') and {mine})"
        query = f"select w.* from (from _wanted where {mine}) w anti join {done} d on w.key = d.key"
        found.append(connection.sql(query).to_arrow_table())
    connection.unregister("_wanted")
    return pa.concat_tables(found) if found else wanted


class Hashes:
    """A set of texts that takes 8 bytes for each.

    A false yes is possible, one in 10^13 where there are a million texts; a false no is not.

    Args:
        old: `hashes` of texts that are in it from the start; they may repeat.
    """

    def __init__(self, old: NDArray[np.int64] | None = None) -> None:
        self._old = np.empty(0, np.int64) if old is None else np.unique(old)
        self._new: set[int] = set()

    def __contains__(self, text: str) -> bool:
        number = hash(text)
        if number in self._new:
            return True
        at = int(self._old.searchsorted(number))
        return at < len(self._old) and int(self._old[at]) == number

    def __bool__(self) -> bool:
        return bool(len(self._old) or self._new)

    def add(self, text: str) -> None:
        """Put a text into the set."""
        self._new.add(hash(text))


def hashes(texts: Iterable[str | None], count: int) -> NDArray[np.int64]:
    """Hash `count` texts; equal texts have equal hashes in this process alone."""
    return np.fromiter(map(hash, texts), np.int64, count)


def columns(connection: duckdb.DuckDBPyConnection, sql: str) -> list[NDArray[Any]]:
    """Run a query and return its columns: the hashes of texts, anything else as it is."""
    batches = stream(connection, sql)
    parts: list[list[NDArray[Any]]] = [[] for _ in batches.schema]
    for batch in batches:
        for part, column in zip(parts, batch.columns, strict=True):
            text = pa.types.is_string(column.type)
            part.append(hashes(column.to_pylist(), len(column)) if text else column.to_numpy(zero_copy_only=False))
    return [np.concatenate(part) if part else np.empty(0, np.int64) for part in parts]


class FinishedKeys(Hashes):
    """Which keys a stage has finished rows for.

    Attributes:
        attempts: per entered item and key, how often it was started there and failed.
    """

    def __init__(self, store: Store, stage: str) -> None:
        super().__init__()
        self.attempts: dict[tuple[str, str], int] = {}
        parts = Manifest(store).parts(stage)
        if not parts:
            return
        with reader(store) as connection:
            rows = narrow(store, parts, "key, status, entered_id, attempt")
            [keys] = columns(connection, f"select key from {rows} where status in ('ok', 'rejected')")
            self._old = np.unique(keys)
            for entered, key, attempt in connection.execute(
                f"select entered_id, key, max(attempt) from {rows} where status = 'failed' group by all"
            ).fetchall():
                self.attempts[entered, key] = attempt


class StageIndex:
    """Where a stage's rows lie in its manifest, 40 bytes for each, so that a few of them can be read alone.

    Args:
        store: the run folder.
        stage: name of the stage.
        writes: the stage's own columns.
        track: whose items `newest` tells of; a finished outcome counts from whichever track it is.
    """

    def __init__(self, store: Store, stage: str, writes: Mapping[str, Any], track: str) -> None:
        self._store, self._stage, self._writes, self._track = store, stage, writes, track
        self._parts: list[str] = []
        none = np.empty(0, np.int64)
        self._keys, self._whose, self._rows = none, none, none
        """Of the finished rows, by key and then by age: hashes of the key and of whose outcome it is, and the place."""
        self._entered, self._newest, self._since = none, none, none
        """Of the items that entered, by hash: hash of the newest row's key and lineage, and its place."""

    def __contains__(self, key: str) -> bool:
        number = hash(key)
        at = int(self._keys.searchsorted(number))
        return at < len(self._keys) and int(self._keys[at]) == number

    def refresh(self) -> None:
        """Take in the parts that came since the last time."""
        known = set(self._parts)
        parts = [part for part in Manifest(self._store).parts(self._stage) if part not in known]
        if not parts:
            return
        with reader(self._store) as connection:
            keys, whose, entered, newest, rows, done, mine = columns(
                connection,
                "select key, concat_ws('|', entered_id, track, key, epoch_us(started_at)), entered_id, "
                "concat(key, '|', upstream), row, status in ('ok', 'rejected'), "
                f"track = {literal(self._track)} from "
                + narrow(self._store, parts, "key, entered_id, track, upstream, status, started_at"),
            )
        rows += len(self._parts) << ROW_BITS
        self._parts += parts
        done, mine = done.astype(bool), mine.astype(bool)
        keys, whose, places = (
            np.concatenate(pair)
            for pair in zip((self._keys, self._whose, self._rows), (keys[done], whose[done], rows[done]), strict=True)
        )
        order = np.lexsort((places, keys))
        self._keys, self._whose, self._rows = keys[order], whose[order], places[order]
        entered, newest, places = (
            np.concatenate(pair)
            for pair in zip(
                (self._entered, self._newest, self._since), (entered[mine], newest[mine], rows[mine]), strict=True
            )
        )
        order = np.lexsort((places, entered))
        last = order[np.append(np.diff(entered[order]) != 0, True)] if len(order) else order
        self._entered, self._newest, self._since = entered[last], newest[last], places[last]

    def held(self, entered: str, key: str, upstream: str) -> bool:
        """Whether the newest row of the item that entered is of this key and lineage."""
        number = hash(entered)
        at = int(self._entered.searchsorted(number))
        there = at < len(self._entered) and int(self._entered[at]) == number
        return there and int(self._newest[at]) == hash(f"{key}|{upstream}")

    def outcomes(self, keys: Iterable[str]) -> dict[str, Outcome]:
        """Read the newest finished outcome of each key that has one, whoever it was computed for."""
        wanted = list(dict.fromkeys(keys))
        numbers = hashes(wanted, len(wanted))
        ends = self._keys.searchsorted(numbers, "right")
        places = []
        for begin, end in zip(self._keys.searchsorted(numbers), ends, strict=True):
            first = end - 1  # the children of a fan-out lie together
            while first > begin and self._whose[first - 1] == self._whose[end - 1]:
                first -= 1
            places += self._rows[max(first, begin) : end].tolist()
        children: dict[str, dict[str, dict[str, Any]]] = {}
        for row in self._read(np.sort(np.array(places, np.int64))):
            its = children.setdefault(row["key"], {})
            its.pop(row["item_id"], None)  # the outcome was committed twice
            its[row["item_id"]] = row
        asked = set(wanted)
        return {key: _outcome(list(its.values()), self._writes) for key, its in children.items() if key in asked}

    def _read(self, places: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
        """Rows at sorted places: of a part only the row groups that hold some."""
        numbers = places >> ROW_BITS
        for number in np.unique(numbers).tolist():
            rows = places[numbers == number] & ROW_MASK
            with pq.ParquetFile(self._store.fetch(self._parts[number])) as file:
                names = [name for name in (*_OUTCOME_COLUMNS, *self._writes) if name in file.schema_arrow.names]
                base = 0
                for group in range(file.num_row_groups):
                    count = file.metadata.row_group(group).num_rows
                    mine = rows[(rows >= base) & (rows < base + count)] - base
                    base += count
                    if len(mine):
                        table = file.read_row_group(group, names).take(mine)
                        begun = table["started_at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64())
                        table = table.set_column(names.index("started_at"), "started_at", begun)
                        yield from table.to_pylist()


def _outcome(rows: Sequence[Mapping[str, Any]], writes: Mapping[str, Any]) -> Outcome:
    """The outcome that was committed as these rows."""
    row = rows[0]
    outcome = Outcome(
        status=row["status"],
        key=row["key"],
        reason=row["reason"] or "",
        error=row["error"] or "",
        attempt=row["attempt"],
        started_at=row["started_at"] / 1e6,
        seconds=row["seconds"],
        cpu_seconds=row["cpu_seconds"],
        worker=row["worker"],
        model=row["model"] or "",
        notes=json.loads(row.get("notes") or "{}"),
    )
    if row["status"] != "ok":
        outcome.facts = decode(row, writes)
        return outcome
    for row in rows:
        child = {"suffix": "", "source_id": "", "columns": decode(row, writes)}
        if row["item_id"] != row["entered_id"]:
            extends = row["item_id"].startswith(row["entered_id"] + "/")
            child["suffix"] = row["item_id"][len(row["entered_id"]) + 1 :] if extends else row["item_id"]
            child["source_id"] = "" if extends else row["source_id"]
        outcome.children.append(child)
    return outcome


__all__ = ["FinishedKeys", "Hashes", "StageIndex", "columns", "hashes", "not_done"]
