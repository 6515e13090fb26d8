"""Append-only Parquet manifests: the outcome of every stage for every item; of several rows the newest counts.

A stage has a folder `manifests/<stage>/` of parts, whose names sort in the order in which they were written
(`manifests/part_files`). Rows that belong together (all children of one fan-out) are in one part, so a kill leaves all
of them or none.
"""

from __future__ import annotations

import io
import json
import os
import socket
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ffpdata.core.keys import digest
from ffpdata.core.stage import Artifact
from ffpdata.manifests.part_files import THREADS, PartName, crc_of, read_part
from ffpdata.storage.object_store import outage_ends_run
from ffpdata.storage.store import Store

MANIFESTS = "manifests"
INPUTS = "inputs"
"""Manifest of the finished inputs; not a stage."""
NEWEST = "newest_parts"
"""Note of a row of `INPUTS`: number of the newest part of each stage when it was written. Were one of these deleted, no
later part would tell."""
FLUSH_ROWS = 500
FLUSH_SECONDS = 2.0
COMPACT_PARTS = 256
"""Most parts of a stage; more are merged into one."""
LARGE_BYTES = 64 << 20
"""From this size, a part is not merged again."""
GROUP_ROWS = 16_384
"""Rows per row group of a merged part: a few rows can be read without the whole part."""

COMMON = pa.schema(
    [
        ("item_id", pa.string()),
        ("parent_id", pa.string()),
        ("entered_id", pa.string()),
        ("source_id", pa.string()),
        ("track", pa.string()),
        ("stage", pa.string()),
        ("key", pa.string()),
        ("upstream", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("error", pa.string()),
        ("attempt", pa.int32()),
        ("started_at", pa.timestamp("us", tz="UTC")),
        ("seconds", pa.float64()),
        ("cpu_seconds", pa.float64()),
        ("worker", pa.string()),
        ("model", pa.string()),
        ("notes", pa.string()),
        ("artifacts", pa.string()),
    ]
)
"""Columns of every manifest row; `manifests/README.md` explains each."""

_LISTS: dict[Any, pa.DataType] = {list[str]: pa.string(), list[int]: pa.int64(), list[float]: pa.float64()}
_SQL = {
    pa.string(): "varchar",
    pa.int64(): "bigint",
    pa.float64(): "double",
    pa.bool_(): "boolean",
    pa.list_(pa.string()): "varchar[]",
    pa.list_(pa.int64()): "bigint[]",
    pa.list_(pa.float64()): "double[]",
}
SQL_TYPES = tuple(_SQL.values())
"""DuckDB's names of the types that a stage's columns can have."""
_ARROW: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    dict: pa.string(),
}


def arrow_type(kind: Any) -> pa.DataType:
    """Return the Arrow type of a column that a stage declares in `writes`; raises TypeError for an unsupported one."""
    if isinstance(kind, Artifact):
        return pa.string()
    if kind in _ARROW:
        return _ARROW[kind]
    if kind in _LISTS:
        return pa.list_(_LISTS[kind])
    raise TypeError(
        f"a manifest column cannot have the type {kind!r}: use one of {sorted(t.__name__ for t in _ARROW)}, "
        "list[str], list[int], list[float] or Artifact(ext)"
    )


def sql_type(kind: Any) -> str:
    """Return DuckDB's name for the type of a declared column."""
    return _SQL[arrow_type(kind)]


def sql_types(writes: Mapping[str, Any]) -> dict[str, str]:
    """A stage's own columns, sorted, and DuckDB's names of their types."""
    return {name: sql_type(kind) for name, kind in sorted(writes.items())}


def stage_schema(writes: Mapping[str, Any]) -> pa.Schema:
    """Return the schema of a stage's manifest: the common columns, then its own, sorted."""
    clash = sorted(set(writes) & set(COMMON.names))
    if clash:
        raise ValueError(f"a stage cannot write the manifest's own columns {clash}: rename them")
    return pa.schema([*COMMON, *((name, arrow_type(writes[name])) for name in sorted(writes))])


def encode(columns: Mapping[str, Any], writes: Mapping[str, Any]) -> dict[str, Any]:
    """Return column values as Parquet stores them: dicts become JSON text."""
    return {
        name: json.dumps(value, sort_keys=True) if writes.get(name) is dict and value is not None else value
        for name, value in columns.items()
    }


def decode(row: Mapping[str, Any], writes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stage's own columns of a manifest row as Python values, without unset ones."""
    values = {name: row[name] for name in writes if row.get(name) is not None}
    return {name: json.loads(value) if writes[name] is dict else value for name, value in values.items()}


class Manifest:
    """The manifests of one run folder."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._last = 0
        self._newest: dict[str, int] = {}
        self._lock = threading.Lock()

    def stages(self) -> list[str]:
        """List the stages that have a manifest, sorted."""
        return self.store.folders(MANIFESTS)

    def parts(self, stage: str) -> list[str]:
        """List the relative paths of a stage's parts, oldest first."""
        return self.store.list(f"{MANIFESTS}/{stage}", ".parquet")

    def listing(self) -> dict[str, list[str]]:
        """Return the parts of every stage that has a manifest, oldest first."""
        return {stage: self.parts(stage) for stage in self.stages()}

    def append(self, stage: str, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> str:
        """Write rows atomically as one new part, and return its path."""
        return self.append_table(stage, pa.Table.from_pylist([dict(r) for r in rows], schema=schema))

    def append_table(self, stage: str, table: pa.Table) -> str:
        """Write a table atomically as one new part, and return its path."""
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
        data = sink.getvalue()
        number = self._sequence()
        name = PartName(number, _tag(table.schema), f"{zlib.crc32(data):08x}", self._newest.get(stage, 0))
        path = _path(stage, name)
        self.store.write(path, data)
        self._newest[stage] = number
        return path

    def renew(self) -> None:
        """Forget which parts there are: since they were listed, another process may have written and merged some."""
        self._last, self._newest = 0, {}

    def newest(self) -> dict[str, int]:
        """Number of the newest part of each stage, as of the first `append` and what was appended since."""
        return dict(self._newest)

    def read(self, stage: str) -> pa.Table:
        """Read all rows of a stage in the order in which they were written, with the columns of all parts."""
        tables = [read_part(self.store, part) for part in self.parts(stage)]
        return pa.concat_tables(tables, promote_options="permissive") if tables else COMMON.empty_table()

    def compact(self, stage: str, at_least: int = 2) -> int:
        """Merge a stage's small parts into one, if there are at least `at_least`; returns how many were merged.

        Large parts and all older ones are left, so that the order of the rows stays. A kill between writing the merged
        part and deleting the old ones leaves duplicate rows, which changes nothing: of an item and key the newest row
        counts.
        """
        parts = self.parts(stage)
        if len(parts) < at_least:
            return 0
        sizes = self.store.sizes(f"{MANIFESTS}/{stage}")
        large = [number for number, part in enumerate(parts) if sizes[part] >= LARGE_BYTES]
        parts = parts[large[-1] + 1 :] if large else parts
        if len(parts) < at_least:
            return 0
        schema = pa.unify_schemas(
            [read_part(self.store, alike[-1]).schema for alike in by_columns(parts).values()],
            promote_options="permissive",
        )
        merged = self.store.temp_file("merged.parquet")
        try:
            with pq.ParquetWriter(merged, schema, compression="zstd", write_page_checksum=True) as writer:
                buffered: list[pa.Table] = []
                for table in self._tables(parts):
                    buffered.append(table)
                    if sum(table.num_rows for table in buffered) >= GROUP_ROWS:
                        writer.write_table(_concatenate(buffered, schema), GROUP_ROWS)
                        buffered = []
                if buffered:
                    writer.write_table(_concatenate(buffered, schema), GROUP_ROWS)
            first, last = PartName.of(parts[0]), PartName.of(parts[-1])
            name = PartName(last.number, _tag(schema), crc_of(merged), first.before)
            self.store.commit(merged, _path(stage, name))
        finally:
            merged.unlink(missing_ok=True)
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self.store.remove, parts))
        return len(parts)

    def _tables(self, parts: Sequence[str]) -> Iterator[pa.Table]:
        """Yield the rows of each part, oldest first; several are read at a time, because object stores are slow."""
        with ThreadPoolExecutor(THREADS) as pool:
            for first in range(0, len(parts), THREADS):
                yield from pool.map(partial(read_part, self.store), parts[first : first + THREADS])

    def _sequence(self) -> int:
        """Return a number above that of every existing part, also where the clock was set back."""
        with self._lock:
            if not self._last:
                newest = {stage: PartName.of(parts[-1]).number for stage, parts in self.listing().items() if parts}
                self._newest = newest | self._newest
                self._last = max(newest.values(), default=0)
            self._last = max(self._last + 1, time.time_ns())
            return self._last


def worker_label() -> str:
    """Return host and process id, as in the column `worker`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def column_tag(part: str) -> str:
    """Return the tag in a part's name: the same tag means the same columns. Empty for parts of other programs."""
    return PartName.of(part).columns


def by_columns(parts: Iterable[str]) -> dict[str, list[str]]:
    """Parts of one stage in groups that have the same columns, by tag; a part without a tag is a group of its own."""
    groups: dict[str, list[str]] = defaultdict(list)
    for part in parts:
        groups[column_tag(part) or part].append(part)
    return groups


def _concatenate(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    """Concatenate tables, with all columns of `schema` in its order."""
    whole = pa.concat_tables([schema.empty_table(), *tables], promote_options="permissive")
    return whole.select(schema.names).cast(schema).combine_chunks()


def _tag(schema: pa.Schema) -> str:
    return digest([(field.name, str(field.type)) for field in schema])[:8]


def _path(stage: str, name: PartName) -> str:
    return f"{MANIFESTS}/{stage}/{name}"


class ManifestWriter:
    """Commits rows in batches, by number or after at most two seconds; threads may share it.

    Use it as a context manager: at its end all buffered rows are written.

    Args:
        manifest: of the run.
        seconds: longest time that rows are buffered.
        rows: number of rows from which on they are committed.
        guard: called before writing; raises where the run's lock was lost.
    """

    def __init__(
        self,
        manifest: Manifest,
        seconds: float = FLUSH_SECONDS,
        rows: int = FLUSH_ROWS,
        guard: Callable[[], None] | None = None,
    ) -> None:
        self.manifest = manifest
        self._guard = guard
        self._seconds, self._rows = seconds, rows
        self._buffers: dict[str, tuple[pa.Schema, list[Mapping[str, Any]]]] = {}
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._loop, name="manifest-writer", daemon=True)

    def __enter__(self) -> ManifestWriter:
        self.manifest.renew()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._wake.set()
        self._thread.join()
        try:
            self.flush()
        except BaseException:
            if kind is None:  # otherwise the first error is the one to raise
                raise

    def add(self, stage: str, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
        """Buffer the rows of one outcome; they are committed together."""
        with self._lock:
            self._raise()
            _, buffered = self._buffers.setdefault(stage, (schema, []))
            buffered.extend(rows)
            if len(buffered) >= self._rows:
                self.flush()

    def flush(self) -> None:
        """Commit all buffered rows.

        Raises:
            FatalError: an object store was unreachable for too long, or the run's lock was lost.
        """
        with self._lock, outage_ends_run(self.manifest.store.root):
            self._raise()
            # The row of a finished input comes after the rows of its items.
            for stage in sorted(self._buffers, key=lambda name: name == INPUTS):
                schema, rows = self._buffers[stage]
                if rows:
                    if self._guard:
                        self._guard()
                    if stage == INPUTS:
                        parts = json.dumps({NEWEST: self.manifest.newest()})
                        rows = [row if row["item_id"] is None else {**row, "notes": parts} for row in rows]
                    self.manifest.append(stage, rows, schema)
                del self._buffers[stage]

    def _loop(self) -> None:
        while not self._wake.wait(self._seconds):
            try:
                if self._guard:
                    self._guard()
                self.flush()
            except BaseException as err:  # noqa: BLE001 - raised again in the run's own thread
                self._failed = err
                return

    def _raise(self) -> None:
        if self._failed is not None:
            raise self._failed
