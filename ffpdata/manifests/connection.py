"""Connections of DuckDB that reach the manifests of one run folder and nothing else.

A run folder may come from anybody, and a query may have been pasted: neither opens other files, writes one, or installs
an extension. Tables that only help to make the views lie in the schema `internal`, which `show tables` leaves out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import duckdb

from ffpdata.core.errors import FatalError, UsageError, nearest
from ffpdata.core.file_names import text_of
from ffpdata.manifests.duckdb_files import ManifestFiles
from ffpdata.manifests.manifest import COMMON, MANIFESTS, SQL_TYPES
from ffpdata.manifests.sql_text import literal

if TYPE_CHECKING:
    from ffpdata.storage.store import Store

_CONFIG: dict[str, Any] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_persistent_secrets": False,
}
NEEDS_UNSAFE = (
    "A query reads the manifests of its run and nothing else; `ffpdata sql --unsafe` (in Python `unsafe=True`) lets it "
    "use files and extensions."
)
_READS = (duckdb.StatementType.SELECT, duckdb.StatementType.CREATE, duckdb.StatementType.SET)
"""Statements that leave all files as they are: tables are created in memory, and settings are locked."""
_EXPLAIN = re.compile(r"\s*explain(\s+analyze)?\s*(\([^()]*\))?", re.IGNORECASE)


def open_connection(store: Store, *, unsafe: bool = False) -> duckdb.DuckDBPyConnection:
    """Open a connection that can read the parts of a run folder.

    Args:
        store: the run folder.
        unsafe: leave other files and extensions open to it.
    """
    connection = duckdb.connect(config={} if unsafe else _CONFIG)
    if not store.local:
        connection.register_filesystem(ManifestFiles(store))
    if not unsafe:
        folder = f"{text_of(store.url(MANIFESTS))}/"
        connection.execute(f"set allowed_directories = [{literal(folder)}]; set enable_external_access = false")
    connection.execute("create schema internal; set search_path = 'main,internal'")
    keep(connection, "_common", COMMON.empty_table())
    return connection


def keep(connection: duckdb.DuckDBPyConnection, name: str, table: Any) -> None:
    """Copy an Arrow table into the schema `internal`."""
    connection.from_arrow(table).create(f"internal.{name}")


def finish(connection: duckdb.DuckDBPyConnection, *, unsafe: bool = False) -> None:
    """Hide the schema `internal`, and let no statement change a setting any more unless `unsafe`."""
    connection.execute("set search_path = 'main'" + ("" if unsafe else "; set lock_configuration = true"))


def check_type(store: Store, stage: str, column: str, kind: object) -> str:
    """Return the SQL type that a `run.yaml` declares for a column; raises FatalError where no manifest has it."""
    if isinstance(kind, str) and kind in SQL_TYPES:
        return kind
    raise FatalError(
        f"{store.root}/run.yaml: column {column!r} of stage {stage!r} has the type {kind!r}"
        f"{nearest(str(kind), SQL_TYPES)}. The file was damaged or written by another program."
    )


def check_query(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Raise UsageError where a query does more than read; DuckDB's own errors for what is no SQL."""
    for text, kind in _statements(connection, query):
        if not _reads(connection, text, kind):
            raise UsageError(f"SQL: {text.split(None, 1)[0].upper()} does more than read. {NEEDS_UNSAFE}")


def _statements(connection: duckdb.DuckDBPyConnection, query: str) -> list[tuple[str, Any]]:
    found = []
    for statement in connection.extract_statements(query):
        try:
            kind = statement.type
        except ValueError:  # a statement that the Python package has no name for
            kind = None
        found.append((statement.query.strip().rstrip(";"), kind))
    return found


def _reads(connection: duckdb.DuckDBPyConnection, text: str, kind: Any) -> bool:
    if kind == duckdb.StatementType.EXPLAIN or (kind == duckdb.StatementType.MULTI and _EXPLAIN.match(text)):
        inner = _EXPLAIN.sub("", text, count=1)
        return inner != text and all(_reads(connection, *one) for one in _statements(connection, inner))
    if kind == duckdb.StatementType.MULTI:  # PIVOT becomes several statements; as a table it is nothing else
        try:
            return len(connection.extract_statements(f"from (\n{text}\n)")) == 1
        except duckdb.Error:
            return False
    return kind in _READS
