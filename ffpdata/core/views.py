"""DuckDB over the manifests: a view per stage with the rows that hold now, and the wide view `items`.

Which rows hold now? Going back to an earlier setting rewrites nothing, so time alone cannot tell. A row names the key
of the row that its item passed before (`upstream`); a row holds when it is the newest outcome of the item that entered
the stage and its upstream row holds too. `<stage>_history` shows all rows that were ever committed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from ffpdata.core.manifest import COMMON, MANIFESTS, Manifest, column_tag
from ffpdata.core.store import Store

CURATE = "curate"
"""The whole-table step after the last stage; its rows live in a manifest of their own."""

OUTCOME = "key || '@' || coalesce(epoch_us(started_at), 0)"
"""SQL for what the rows of one outcome share: a fan-out that failed and then went well has both under one key."""

_ORDER = {"part": "varchar", "part_row": "bigint"}
_NARROW = "track, entered_id, item_id, key, upstream, status"


def quote(name: str) -> str:
    """Quote an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote an SQL text."""
    return "'" + text.replace("'", "''") + "'"


def scan(store: Store, stage: str) -> str:
    """SQL table expression over all parts of one stage, with `part` and `part_row` to order the rows by.

    Parts with the same columns are read together: DuckDB reads files that may differ at half the speed.
    """
    sources = set()
    for part in Manifest(store).parts(stage):
        tag = column_tag(part)
        pattern = literal(store.url(f"{MANIFESTS}/{stage}/part-*-{tag}-*.parquet" if tag else part))
        sources.add(f"read_parquet({pattern}, filename = true, file_row_number = true)")
    rows = "select * exclude (filename, file_row_number), parse_filename(filename) as part, file_row_number as part_row"
    return "(" + " union all by name ".join(f"{rows} from {source}" for source in sorted(sources)) + ")"


def connect(
    store: Store,
    tracks: Mapping[str, Sequence[str]] | None = None,
    columns: Mapping[str, Mapping[str, str]] | None = None,
) -> duckdb.DuckDBPyConnection:
    """Open a connection with the views of a run folder.

    Args:
        store: the run folder.
        tracks: per track the names of its stages in order; needed for the views of current rows. Without it only the
            `<stage>_history` views are made.
        columns: per stage its own columns and their SQL types, so that a view has them before the first row is there.
    """
    connection = duckdb.connect()
    if not store.local:
        connection.register_filesystem(store.fs)
    manifest = Manifest(store)
    present = set(manifest.stages())
    names = sorted(present | {s for stages in (tracks or {}).values() for s in stages} | {CURATE})
    connection.register("_common", COMMON.empty_table())
    for stage in names:
        declared = {**_ORDER, **(columns or {}).get(stage, {})}
        empty = ", ".join(["*", *(f"null::{kind} as {quote(name)}" for name, kind in declared.items())])
        source = f"select {empty} from _common"
        if stage in present and manifest.parts(stage):
            source = f"select * from {scan(store, stage)} union all by name {source}"
        connection.execute(f"create view {quote(f'{stage}_history')} as {source}")
        connection.execute(f"create temp table {quote(f'_now_{stage}')} (track text, part text, part_row bigint)")
    for track, stages in (tracks or {}).items():
        _mark_current(connection, track, [*stages, CURATE])
    for stage in names:
        connection.execute(
            f"create view {quote(stage)} as select h.* exclude (part, part_row) "
            f"from {quote(f'{stage}_history')} h semi join {quote(f'_now_{stage}')} n using (track, part, part_row)"
        )
    if tracks:
        _wide(connection, tracks)
    return connection


def _mark_current(connection: duckdb.DuckDBPyConnection, track: str, stages: Sequence[str]) -> None:
    """Fill `_now_<stage>` for one track, stage by stage, so that each looks at the rows that hold before it."""
    connection.execute("create or replace temp table _holding (key text)")
    for stage in stages:
        connection.execute(
            f"""
            create or replace temp table _candidates as
            with rows as (
                select {_NARROW}, {OUTCOME} as outcome, part, part_row
                from {quote(f"{stage}_history")} where track = $track
            ), newest as (
                select entered_id, arg_max(outcome, part || lpad(part_row::text, 12, '0')) as outcome
                from rows group by entered_id
            )
            select r.* from rows r join newest using (entered_id, outcome)
            where r.upstream = '' or r.upstream in (select key from _holding)
            qualify row_number() over (partition by r.item_id order by r.part desc, r.part_row desc) = 1
            """,
            {"track": track},
        )
        connection.execute(f"insert into {quote(f'_now_{stage}')} select track, part, part_row from _candidates")
        connection.execute("insert into _holding select distinct key from _candidates where status = 'ok'")
    connection.execute("drop table _holding; drop table if exists _candidates")


def _wide(connection: duckdb.DuckDBPyConnection, tracks: Mapping[str, Sequence[str]]) -> None:
    """Create `items`: per leaf of the fan-out one row with every column, the last stage and the final status."""
    parts = [_wide_track(connection, track, stages) for track, stages in tracks.items() if stages]
    connection.execute("create view items as " + " union all by name ".join(f"({p})" for p in parts))


def _wide_track(connection: duckdb.DuckDBPyConnection, track: str, stages: Sequence[str]) -> str:
    shared = ("item_id", "parent_id", "source_id", "stage", "status", "reason", "error")
    seen: list[str] = []
    query = ""
    for stage in (*stages, CURATE):
        described = connection.execute(f"describe {quote(stage)}").fetchall()
        own = [name for name, *_ in described if name not in COMMON.names]
        extra = [f"b.{c} as {quote(f'{stage}_{c}')}" for c in ("key", "seconds", "cpu_seconds", "model", "attempt")]
        rows = f"(select * from {quote(stage)} where track = '{track}')"
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
    final = stages[-1].replace("'", "''")
    return (
        f"select '{track}' as track, * replace (case when status = 'ok' and stage not in ('{final}', '{CURATE}') "
        f"then 'pending' else status end as status) from ({query})"
    )


def records(connection: duckdb.DuckDBPyConnection, sql: str, values: Any = None) -> list[dict[str, Any]]:
    """Run a query and return its rows as dicts."""
    found = connection.sql(sql, params=values)
    rows: list[dict[str, Any]] = found.to_arrow_table().to_pylist() if found is not None else []
    return rows
