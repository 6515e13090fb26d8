"""The finished rows of one stage: which keys they have, and where they lie in the manifest.

Finished means `ok` or `rejected`. Whose row it was does not matter, because equal keys are equal questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ffpdata.core.stage import Item
from ffpdata.manifests.connection import open_connection
from ffpdata.manifests.manifest import COMMON, Manifest
from ffpdata.manifests.sql_text import literal
from ffpdata.manifests.views import ROW_BITS, ROW_MASK, narrow, stream
from ffpdata.runners.task import Outcome

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

_OUTCOME_COLUMNS = tuple(name for name in COMMON.names if name not in {"parent_id", "track", "stage", "upstream"})


class TextSet:
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
        return number in self._new or _position(self._old, number) is not None

    def __bool__(self) -> bool:
        return bool(len(self._old) or self._new)

    def add(self, text: str) -> None:
        """Put a text into the set."""
        self._new.add(hash(text))


class StageIndex:
    """The keys of a stage's finished rows, 8 bytes each; after `refresh` also where the rows lie, 40 bytes each.

    Most keys that a start asks for have no row, or need not be read, so the places are read when the first row is asked
    for: that takes four texts of every row, where the keys take one.

    Args:
        manifest: of the run.
        stage: name of the stage.
        writes: the stage's own columns.
        track: whose items `is_newest` tells of; a finished outcome counts from whichever track it is.
        connection: of `open_connection`, to read the keys with; one of its own by default.

    Attributes:
        attempts: per entered item and key, how often it was started there and failed.
    """

    def __init__(
        self,
        manifest: Manifest,
        stage: str,
        writes: Mapping[str, Any],
        track: str,
        connection: duckdb.DuckDBPyConnection | None = None,
    ) -> None:
        self._manifest, self._stage, self._writes, self._track = manifest, stage, writes, track
        self._parts: list[str] = []
        """Parts whose rows have their places here."""
        none = np.empty(0, np.int64)
        self._keys, self._whose, self._rows = none, none, none
        """Of the finished rows, by key and then by age: hashes of the key and of whose outcome it is, and the place."""
        self._entered, self._newest, self._since = none, none, none
        """Of the items that entered, by hash: hash of the newest row's outcome and lineage, and its place."""
        self._added: set[int] = set()
        self.attempts: dict[tuple[str, str], int] = {}
        if parts := manifest.parts(stage):
            with nullcontext(connection) if connection else open_connection(manifest.store) as reader:
                self._read_keys(parts, reader)

    def _read_keys(self, parts: Sequence[str], connection: duckdb.DuckDBPyConnection) -> None:
        rows = narrow(self._manifest.store, parts, "key, status, entered_id, attempt")
        [keys] = hashed_columns(connection, f"select key from {rows} where status in ('ok', 'rejected')")
        self._keys = np.unique(keys)
        for entered, key, attempt in connection.execute(
            f"select entered_id, key, max(attempt) from {rows} where status = 'failed' group by all"
        ).fetchall():
            self.attempts[entered, key] = attempt

    def __contains__(self, key: str) -> bool:
        number = hash(key)
        return number in self._added or _position(self._keys, number) is not None

    def add(self, key: str) -> None:
        """Note a key that was finished in this start, whose row may not be committed yet."""
        self._added.add(hash(key))

    def has_places(self, keys: Iterable[str]) -> bool:
        """Whether the rows of all these keys have their places here, as of the last `refresh`."""
        return bool(self._parts) and all(_position(self._keys, hash(key)) is not None for key in keys)

    def refresh(self) -> None:
        """Read the places of the rows in parts that came since the last time."""
        known = set(self._parts)
        parts = [part for part in self._manifest.parts(self._stage) if part not in known]
        if not parts:
            return
        with open_connection(self._manifest.store) as connection:
            keys, whose, entered, newest, rows, done, mine = hashed_columns(
                connection,
                "select key, concat_ws('|', entered_id, track, key, epoch_us(started_at)), entered_id, "
                "concat(key, '|', upstream, '|', epoch_us(started_at)), row, status in ('ok', 'rejected'), "
                f"track = {literal(self._track)} from "
                + narrow(self._manifest.store, parts, "key, entered_id, track, upstream, status, started_at"),
            )
        rows += len(self._parts) << ROW_BITS
        if not self._parts:  # the keys that were read without their places are among these
            self._keys = self._rows
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

    def is_newest(self, outcome: Outcome, item: Item) -> bool:
        """Whether the newest row of the item that entered is of this outcome and of the item's lineage."""
        at, begun = _position(self._entered, hash(item.item_id)), round(outcome.started_at * 1e6)
        return at is not None and int(self._newest[at]) == hash(f"{outcome.key}|{item.upstream}|{begun}")

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
        asked = children.keys() & set(wanted)  # two keys may have one hash
        return {key: Outcome.from_rows(list(children[key].values()), self._writes) for key in asked}

    def _read(self, places: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
        """Rows at sorted places: of a part only the row groups that hold some."""
        numbers = places >> ROW_BITS
        for number in np.unique(numbers).tolist():
            rows = places[numbers == number] & ROW_MASK
            path = self._manifest.store.fetch(self._parts[number])
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
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


def hashes(texts: Iterable[str | None], count: int) -> NDArray[np.int64]:
    """Hash `count` texts; equal texts have equal hashes in this process alone."""
    return np.fromiter(map(hash, texts), np.int64, count)


def hashed_columns(connection: duckdb.DuckDBPyConnection, sql: str) -> list[NDArray[Any]]:
    """Run a query and return its columns: the hashes of texts, anything else as it is."""
    batches = stream(connection, sql)
    parts: list[list[NDArray[Any]]] = [[] for _ in batches.schema]
    for batch in batches:
        for part, column in zip(parts, batch.columns, strict=True):
            text = pa.types.is_string(column.type)
            part.append(hashes(column.to_pylist(), len(column)) if text else column.to_numpy(zero_copy_only=False))
    return [np.concatenate(part) if part else np.empty(0, np.int64) for part in parts]


def _position(numbers: NDArray[np.int64], number: int) -> int | None:
    """Where a number stands in a sorted array; None where it does not."""
    at = int(numbers.searchsorted(number))
    return at if at < len(numbers) and int(numbers[at]) == number else None
