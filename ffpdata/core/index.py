"""What is done already: the outcomes of one stage by key, and which items still wait.

Done means: a row with the item's key exists and is `ok` or `rejected`. Whose row it was does not matter, because equal
keys are equal questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa

from ffpdata.core.execute import Outcome
from ffpdata.core.manifest import MANIFESTS, Manifest, decode
from ffpdata.core.store import Store
from ffpdata.core.views import OUTCOME, literal, narrow, reader, records, scan, stream

if TYPE_CHECKING:
    from numpy.typing import NDArray

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


def hashed(connection: duckdb.DuckDBPyConnection, sql: str) -> list[NDArray[np.int64]]:
    """Run a query whose columns are all texts and return the hashes of each, in the query's order."""
    batches = stream(connection, sql)
    parts = [[hashes(column.to_pylist(), len(column)) for column in batch.columns] for batch in batches]
    none = np.empty(0, np.int64)
    return [np.concatenate([none, *(part[number] for part in parts)]) for number in range(len(batches.schema))]


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
            [keys] = hashed(connection, f"select key from {rows} where status in ('ok', 'rejected')")
            self._old = np.unique(keys)
            for entered, key, attempt in connection.execute(
                f"select entered_id, key, max(attempt) from {rows} where status = 'failed' group by all"
            ).fetchall():
                self.attempts[entered, key] = attempt


@dataclass
class StageIndex:
    """Committed rows of one stage, as a runner needs them on resume.

    Attributes:
        outcomes: finished outcomes by key.
        newest: per item that entered, key and upstream of its newest row.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    newest: dict[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def load(
        cls, store: Store, stage: str, writes: Mapping[str, Any], track: str, wanted: Sequence[tuple[str, str]]
    ) -> StageIndex:
        """Read what concerns the `wanted` (item_id, key) pairs."""
        index = cls()
        if not wanted or not Manifest(store).parts(stage):
            return index
        connection = reader(store)
        ids, keys = zip(*wanted, strict=True)
        connection.register("_wanted", pa.table({"item_id": ids, "key": keys}))
        connection.execute(f"create view rows as select * from {scan(store, stage)}")
        order = "part || lpad(part_row::text, 12, '0')"
        for row in records(
            connection,
            f"select entered_id, arg_max(key, {order}) as key, arg_max(upstream, {order}) as upstream "
            "from rows semi join _wanted on entered_id = _wanted.item_id where track = $track group by entered_id",
            {"track": track},
        ):
            index.newest[row["entered_id"]] = (row["key"], row["upstream"])
        # One outcome may have been committed for several items: any one of them tells the same.
        who = f"entered_id || '|' || track || '|' || {OUTCOME}"
        done = records(
            connection,
            "with done as (select * from rows semi join _wanted using (key) where status in ('ok', 'rejected')), "
            f"one as (select key, arg_max({who}, {order}) as who from done group by key) "
            f"select done.* from (select *, {who} as who from done) done join one using (key, who) "
            f"qualify row_number() over (partition by done.key, item_id order by {order} desc) = 1 order by {order}",
        )
        for row in done:
            index.outcomes[row["key"]] = _with_child(index.outcomes.get(row["key"]), row, writes)
        connection.close()
        return index


def _with_child(outcome: Outcome | None, row: Mapping[str, Any], writes: Mapping[str, Any]) -> Outcome:
    if outcome is None:
        outcome = Outcome(
            status=row["status"],
            key=row["key"],
            reason=row["reason"] or "",
            error=row["error"] or "",
            attempt=row["attempt"],
            started_at=row["started_at"].timestamp(),
            seconds=row["seconds"],
            cpu_seconds=row["cpu_seconds"],
            worker=row["worker"],
            model=row["model"] or "",
        )
    columns = decode(row, writes)
    if row["status"] != "ok":
        outcome.facts = columns
        return outcome
    child = {"suffix": "", "source_id": "", "columns": columns}
    if row["item_id"] != row["entered_id"]:
        extends = row["item_id"].startswith(row["entered_id"] + "/")
        child["suffix"] = row["item_id"][len(row["entered_id"]) + 1 :] if extends else row["item_id"]
        child["source_id"] = "" if extends else row["source_id"]
    outcome.children.append(child)
    return outcome


__all__ = ["FinishedKeys", "Hashes", "StageIndex", "hashed", "hashes", "not_done"]
