"""DuckDB views of the manifests: a view per stage with its current rows, and the wide view `items`.

The newest row need not be the current one, because going back to an earlier setting computes nothing. A row names the
key of the row that its item came from (`upstream`). A row is current when it belongs to the newest outcome of the item
that entered the stage, and its upstream row is current, too. `<stage>_history` has all rows ever committed.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from ffpdata.core.errors import FatalError
from ffpdata.core.file_names import text_of
from ffpdata.manifests.connection import check_type, finish, keep, open_connection
from ffpdata.manifests.manifest import COMMON, MANIFESTS, Manifest, by_columns
from ffpdata.manifests.part_files import check_parts, damaged
from ffpdata.manifests.sql_text import literal, quote
from ffpdata.manifests.yields import create_yields
from ffpdata.storage.object_store import latest_outage
from ffpdata.storage.store import Store

CURATE = "curate"
"""The step over the whole table after the last stage; its rows have a manifest of their own."""

STREAM_ROWS = 65_536

PAIR = ("source_video", "target_video")
"""Columns that make an item a pair."""
IS_PAIR = " and ".join(f"{column} is not null" for column in PAIR)
"""SQL condition for a row of `items`, where it has these columns."""

ROW_BITS = 32
ROW_MASK = (1 << ROW_BITS) - 1
"""The position of a row: the number of its part, shifted by `ROW_BITS`, and its number in the part."""

OF_EACH = ("key", "seconds", "cpu_seconds", "model", "attempt", "artifacts")
"""Common columns that `items` has of each stage, as `<stage>_<column>`."""

_ORDER = {"part": "varchar", "part_row": "bigint"}


def scan(store: Store, parts: Sequence[str]) -> str:
    """Return an SQL table expression over parts of one stage, with `part` and `part_row` to order the rows by.

    Parts with the same columns are read together: DuckDB reads files that may differ at half the speed. They are listed
    one by one, so that a part that is missing when it is read is an error.
    """
    rows = "select * exclude (filename, file_row_number), parse_filename(filename) as part, file_row_number as part_row"
    alike = sorted(by_columns(parts).items())
    sources = (f"read_parquet([{_names(store, these)}], filename = true, file_row_number = true)" for _, these in alike)
    return "(" + " union all by name ".join(f"{rows} from {source}" for source in sources) + ")"


def narrow(store: Store, parts: Sequence[str], columns: str) -> str:
    """Return an SQL table expression over common columns of some parts, whose other columns may differ.

    Its column `row` orders the rows as the parts are listed.
    """
    row = f"(file_index::bigint << {ROW_BITS}) | file_row_number as row"
    if not parts:
        return f"(select {columns}, 0::bigint as row from internal._common limit 0)"
    return f"(select {columns}, {row} from read_parquet([{_names(store, parts)}]))"


def _names(store: Store, parts: Sequence[str]) -> str:
    """Full locations of parts, as SQL texts. DuckDB would not notice a damaged one, so they are checked here."""
    check_parts(store, parts)
    root = text_of(store.url(""))
    return ", ".join(literal(f"{root}/{part}") for part in parts)


def connect(
    store: Store,
    tracks: Mapping[str, Sequence[str]] | None = None,
    columns: Mapping[str, Mapping[str, str]] | None = None,
    *,
    idle: Mapping[str, Container[str]] | None = None,
    unsafe: bool = False,
) -> duckdb.DuckDBPyConnection:
    """Open a connection with the views of a run folder.

    Args:
        store: the run folder.
        tracks: per track the names of its stages in order; needed for the views of current rows. Manifests that are no
            stage of a track (`inputs`, `review`, a stage that was removed from the pipeline) have a `_history` view
            only.
        columns: per stage its own columns and their SQL types, so that a view has them before it has rows.
        idle: as in `current`.
        unsafe: leave other files, extensions and settings open to SQL.

    Raises:
        FatalError: a declared type is none of a manifest.
    """
    parts = Manifest(store).listing()
    tracks = tracks or {}
    connection = current(store, tracks, parts, idle=idle, unsafe=unsafe)
    stages = {CURATE, *(stage for names in tracks.values() for stage in names)} if tracks else set()
    for stage in sorted({*parts, *stages, CURATE}):
        own = (columns or {}).get(stage, {})
        declared = _ORDER | {name: check_type(store, stage, name, kind) for name, kind in own.items()}
        empty = ", ".join(["*", *(f"null::{kind} as {quote(name)}" for name, kind in declared.items())])
        source = f"select {empty} from internal._common"
        if parts.get(stage):
            source = f"select * from {scan(store, parts[stage])} union all by name {source}"
        connection.execute(f"create view {quote(f'{stage}_history')} as {source}")
        if stage in stages:
            now = f"(select part, row & {ROW_MASK} as part_row from internal._now join internal._parts p using (place) "
            connection.execute(
                f"create view {quote(stage)} as select h.* exclude (part, part_row) "
                f"from {quote(f'{stage}_history')} h semi join {now}"
                f"join internal._stages s on p.number = s.number where stage = {literal(stage)}) using (part, part_row)"
            )
    if tracks:
        _wide(connection, tracks, idle or {})
        create_yields(connection, tracks, CURATE)
    finish(connection, unsafe=unsafe)
    return connection


def current(
    store: Store,
    tracks: Mapping[str, Sequence[str]],
    parts: Mapping[str, Sequence[str]] | None = None,
    *,
    idle: Mapping[str, Container[str]] | None = None,
    unsafe: bool = False,
) -> duckdb.DuckDBPyConnection:
    """Open a connection with the table `_now`: the current rows of all stages, with the columns that are counted.

    Its columns: `number` of the stage (`_stages` has its name), `track, entered_id, status, reason, seconds`;
    `entered` and `item`, hashes of the ids, because numbers are compared much faster than texts; `place`, the part's
    number in `_parts`, and `row`.

    Args:
        store: the run folder.
        tracks: per track the names of its stages in order.
        parts: of each stage, where they were listed already.
        idle: per track the stages that pass every item since its newest start: what they decided before is history.
        unsafe: leave other files and extensions open to SQL.
    """
    connection = open_connection(store, unsafe=unsafe)
    stages = list(dict.fromkeys(s for names in tracks.values() for s in [*names, CURATE]))
    parts = parts if parts is not None else {stage: Manifest(store).parts(stage) for stage in stages}
    listed = [(number, part) for number, stage in enumerate(stages) for part in parts.get(stage, ())]
    numbers = pa.array([number for number, _ in listed], pa.int16())
    files = pa.array([part.rsplit("/", 1)[1] for _, part in listed], pa.string())
    keep(connection, "_parts", pa.table({"place": pa.array(range(len(listed))), "number": numbers, "part": files}))
    keep(connection, "_stages", pa.table({"number": pa.array(range(len(stages)), pa.int16()), "stage": stages}))
    columns = "track, entered_id, item_id, key, upstream, started_at, status, reason, seconds"
    connection.execute(
        f"""
        create table internal._rows as
        select number, track, entered_id, status, reason, seconds, row, place, upstream = '' as begins,
            hash(track, entered_id) as entered, hash(track, item_id) as item, hash(track, key) as key,
            hash(track, upstream) as upstream, hash(key, started_at) as outcome
        from {narrow(store, [part for _, part in listed], columns)} r join _parts on place = row >> {ROW_BITS};
        create table internal._newest as
        select number, entered, arg_max(outcome, row) as newest from _rows
        group by number, entered having min(outcome) <> max(outcome);
        """
    )
    left_out = idle or {}
    order = [
        (track, stages.index(stage))
        for track, names in tracks.items()
        for stage in [*names, CURATE]
        if stage not in left_out.get(track, ())
    ]
    if _all_current(connection, order):
        connection.execute("alter table internal._rows rename to _now; drop table _newest")
    else:
        _select_current(connection, order)
    return connection


def _all_current(connection: duckdb.DuckDBPyConnection, order: Sequence[tuple[str, int]]) -> bool:
    """Return whether all rows of `_rows` are current: nothing was ever redone. True for most runs, fast to check."""
    tracks, numbers = ([pair[n] for pair in order] for n in range(2))
    columns = {"track": pa.array(tracks, pa.string()), "number": pa.array(numbers, pa.int16())}
    connection.register("_order", pa.table(columns | {"place": pa.array(range(len(order)), pa.int32())}))
    [(found,)] = connection.execute(
        """
        select not exists (from _newest)
            and not exists (from _rows anti join _order using (track, number))
            and not exists (select 1 from _rows group by number, item having count(*) > 1)
            and not exists (
                from (from _rows where not begins) r
                anti join (select key from _rows where status = 'ok') k on r.upstream = k.key)
            and not exists (
                select 1 from (from _rows join _order using (track, number) where status <> 'ok') ended
                join (from _rows join _order using (track, number)) later
                on later.entered = ended.item and later.place > ended.place)
        """
    ).fetchall()
    connection.unregister("_order")
    return bool(found)


def _select_current(connection: duckdb.DuckDBPyConnection, order: Sequence[tuple[str, int]]) -> None:
    """Make `_now` of the current rows of `_rows`, stage after stage, each by the current rows of the one before.

    An item that ended at a stage has no rows behind it. It has some in the history where the stage, a gate for one, was
    added to a run that had passed it.
    """
    connection.execute(
        "create table internal._now as from _rows limit 0; "
        "create temp table _holding (key ubigint); create temp table _ended (item ubigint)"
    )
    for track, number in order:
        connection.execute(
            """
            create or replace temp table _mine as
            select r.* from (from _rows where number = $number and track = $track) r
            left join (from _newest where number = $number) using (entered)
            where (newest is null or outcome = newest) and (begins or upstream in (select key from _holding))
                and entered not in (select item from _ended)
            """,
            {"number": number, "track": track},
        )
        connection.execute(
            """
            insert into _now
            select m.* from _mine m
            left join (select item, max(row) as last from _mine group by item having count(*) > 1) using (item)
            where last is null or row = last;
            insert into _holding select distinct key from _mine where status = 'ok';
            insert into _ended select distinct item from _mine where status <> 'ok';
            """
        )
    connection.execute(
        "".join(f"drop table if exists {name};" for name in ("_rows", "_newest", "_holding", "_ended", "_mine"))
    )


def pairs(
    connection: duckdb.DuckDBPyConnection,
    tracks: Mapping[str, Sequence[str]],
    made_by: Mapping[str, Sequence[Container[str]]] | None = None,
    idle: Mapping[str, Container[str]] | None = None,
) -> int:
    """Count the finished pairs among the rows of `current`: what `items` has with status `ok`.

    Args:
        connection: of `current`.
        tracks: per track the names of its stages in order.
        made_by: per track, for each of `PAIR`, the stages that write it. An item that passed none of them is no pair.
            None where every finished item is one.
        idle: as in `current`.
    """
    found = 0
    for track, stages in tracks.items():
        if not stages:
            continue
        query, halves = "", (made_by or {}).get(track, () if made_by is None else ((),))
        made = [f"made_{number}" for number in range(len(halves))]
        last = _last(stages, (idle or {}).get(track, ()))
        for stage in (*stages, CURATE):
            ends = stage in (last, CURATE)
            mine = f"track = {literal(track)} and stage = {literal(stage)}"
            makes = "".join(f", {stage in half} as {name}" for half, name in zip(halves, made, strict=True))
            columns = f"entered, item, status, {ends} as ends{makes}"
            rows = f"(select {columns} from _now join _stages using (number) where {mine})"
            if query:
                columns = ", ".join(f"coalesce(b.{c}, a.{c}) as {c}" for c in ("item", "status", "ends"))
                flags = "".join(f", a.{name} or coalesce(b.{name}, false) as {name}" for name in made)
                query = f"select {columns}{flags} from ({query}) a left join {rows} b on b.entered = a.item"
            else:
                query = f"select item, status, ends{''.join(f', {name}' for name in made)} from {rows}"
        wanted = " and ".join(["status = 'ok'", "ends", *made])
        [(count,)] = connection.execute(f"select count(*) from ({query}) where {wanted}").fetchall()
        found += count
    return found


def _last(stages: Sequence[str], idle: Container[str]) -> str:
    """Return the stage behind which an item is finished: the last one that does not pass every item."""
    return next((stage for stage in reversed(stages) if stage not in idle), stages[-1])


def of_each(tracks: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the names of the columns of `OF_EACH` for all stages."""
    return {f"{stage}_{c}" for stages in tracks.values() for stage in (*stages, CURATE) for c in OF_EACH}


def in_items(stage: str, column: str, reserved: Container[str]) -> str:
    """Return the name of a stage's own column in `items`; `reserved` are the names of `of_each`."""
    return f"{stage}_{column}" if column in reserved else column


def _wide(
    connection: duckdb.DuckDBPyConnection, tracks: Mapping[str, Sequence[str]], idle: Mapping[str, Container[str]]
) -> None:
    """Create `items`: one row per leaf of the fan-out with every column, its last stage and final status.

    It has `<stage>_<column>` for each stage and each column of `OF_EACH`. A stage's own column with the same name as
    one of these becomes `<stage>_<column>`, too: `source_seconds` of `ingest` is `ingest_source_seconds`.
    """
    reserved = of_each(tracks)
    parts = [
        _wide_track(connection, track, stages, reserved, _last(stages, idle.get(track, ())))
        for track, stages in tracks.items()
        if stages
    ]
    connection.execute("create view items as " + " union all by name ".join(f"({p})" for p in parts))


def _wide_track(
    connection: duckdb.DuckDBPyConnection, track: str, stages: Sequence[str], reserved: Container[str], last: str
) -> str:
    shared = ("item_id", "parent_id", "source_id", "stage", "status", "reason", "error")
    seen: list[str] = []
    query = ""
    for stage in (*stages, CURATE):
        described = connection.execute(f"describe {quote(stage)}").fetchall()
        written = [name for name, *_ in described if name not in COMMON.names]
        own = [in_items(stage, name, reserved) for name in written]
        extra = [f"b.{c} as {quote(f'{stage}_{c}')}" for c in OF_EACH]
        renamed = ", ".join(f"{quote(a)} as {quote(b)}" for a, b in zip(written, own, strict=True) if a != b)
        every = f"* rename ({renamed})" if renamed else "*"
        rows = f"(select {every} from {quote(stage)} where track = {literal(track)})"
        if not query:
            columns = [f"b.{c}" for c in shared] + [f"b.{quote(c)}" for c in own] + extra
            query = f"select {', '.join(columns)} from {rows} b"
        else:
            columns = [f"coalesce(b.{c}, a.{c}) as {c}" for c in shared]
            columns += [f"coalesce(b.{quote(c)}, a.{quote(c)}) as {quote(c)}" for c in own if c in seen]
            columns += [f"b.{quote(c)}" for c in own if c not in seen]
            kept = [*shared, *(c for c in own if c in seen)]
            columns += [f"a.* exclude ({', '.join(quote(c) for c in kept)})", *extra]
            query = f"select {', '.join(columns)} from ({query}) a left join {rows} b on b.entered_id = a.item_id"
        seen += [c for c in own if c not in seen]
    ends = ", ".join(map(literal, (last, CURATE)))
    return (
        f"select {literal(track)} as track, * replace (case when status = 'ok' and stage not in ({ends}) "
        f"then 'pending' else status end as status) from ({query})"
    )


@contextmanager
def readable(store: Store) -> Iterator[None]:
    """Turn DuckDB's errors on unreadable manifests into a FatalError."""
    before = latest_outage()
    try:
        yield
    except duckdb.Error as err:
        why, part, outage = str(err), _part_in(err), latest_outage()
        if outage is not None and outage is not before:  # DuckDB keeps only its text
            why = f"{outage}. Try again when the store is back."
        elif part and not store.exists(part):
            why = f"{part} is gone: the run was started again meanwhile and merged its parts. Try again."
        elif part:
            raise damaged(store, part, why) from None
        raise FatalError(f"the manifests of {store.root} cannot be read: {why}") from None


def about_manifests(err: duckdb.Error) -> bool:
    """Return whether an error is of reading manifests, and not of the query."""
    wrong_sql = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)
    return not isinstance(err, wrong_sql) and bool(_part_in(err))


def _part_in(err: duckdb.Error) -> str:
    """Return the part of a manifest that an error names; empty where it names none."""
    named = re.search(rf"{MANIFESTS}/[^/'\"]+/[^/'\"]+\.parquet", str(err))
    return named.group() if named else ""


def stream(connection: duckdb.DuckDBPyConnection, sql: str, rows: int = STREAM_ROWS) -> pa.RecordBatchReader:
    """Run a query and read its result in batches of about `rows` rows."""
    return connection.sql(sql).to_arrow_reader(rows)


def records(connection: duckdb.DuckDBPyConnection, sql: str, values: Any = None) -> list[dict[str, Any]]:
    """Run a query and return its rows as dicts."""
    found = connection.sql(sql, params=values)
    rows: list[dict[str, Any]] = found.to_arrow_table().to_pylist() if found is not None else []
    return rows
