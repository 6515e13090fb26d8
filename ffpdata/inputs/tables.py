"""The rows of an input table: CSV, TSV, JSON lines, Parquet (a file or a folder of parts), or one path a line.

Every row of the table is one `TableRow`. One that cannot be taken as it stands (too few cells, no JSON, a text that is
not UTF-8) has a `fault`. A table whose rows cannot be told apart is a ConfigError.
"""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, Any

from ffpdata.core.errors import ConfigError
from ffpdata.core.file_names import is_text, printable
from ffpdata.inputs.delimited import records

PARTS = (".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".json")
"""Endings of tables; those of one kind may also be the parts in a folder."""
TABLES = (*PARTS, ".txt")
NOT_READ = (
    *(
        ".xlsx",
        ".xls",
        ".ods",
        ".arrow",
        ".feather",
        ".orc",
        ".avro",
        ".pkl",
        ".npy",
        ".db",
        ".sqlite",
        ".yaml",
        ".yml",
    ),
    *(".xml", ".html", ".gz", ".zst", ".bz2", ".xz", ".zip", ".tar"),
)
"""Endings of files that are lists or archives and no media."""


@dataclass
class TableRow:
    """One row: `values` by column, `where` it stands in the table, and its `fault` where it cannot be taken."""

    where: str
    values: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


def suffix_of(table: str) -> str:
    """Return a file's ending in lower case."""
    return PurePosixPath(table).suffix.lower()


def read_table(table: str, stream: IO[bytes]) -> list[TableRow]:
    """Read the rows of a table in their order.

    Args:
        table: its location; the ending says what it is, one of `TABLES`.
        stream: its bytes.

    Raises:
        ConfigError: it is no such table, or has no column `path` or two columns of one name.
    """
    suffix = suffix_of(table)
    reader: Callable[[str, bytes], Iterable[TableRow]]
    reader = _parquet if suffix == ".parquet" else _json if suffix in PARTS[3:] else _delimited
    rows = list((_paths if suffix == ".txt" else reader)(table, stream.read()))
    return [_checked(row) for row in rows]


def parts(files: Iterable[str], root: str) -> list[str]:
    """Return the parts among the files of a folder that holds nothing else, as Spark and others write a table.

    Empty where it holds anything else. Names that begin with `_` are marks of the writer (`_SUCCESS`).

    Raises:
        ConfigError: the folder holds tables of several kinds and nothing else.
    """
    found: list[str] = []
    for file in files:
        if PurePosixPath(file).name.startswith("_"):
            continue
        if suffix_of(file) not in PARTS:
            return []
        found.append(file)
    kinds = sorted({suffix_of(file) for file in found})
    if len(kinds) > 1:
        raise ConfigError(f"{root}: the folder holds nothing but tables ({', '.join(kinds)}): give one of them")
    return found


def partition_of(part: str) -> dict[str, str]:
    """Return the columns that the folders of a part stand for: `licence=CC0-1.0/part-0.parquet`."""
    return dict(folder.split("=", 1) for folder in part.split("/")[:-1] if "=" in folder)


# --- the kinds of tables ---


def _parquet(table: str, data: bytes) -> Iterator[TableRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ffpdata.inputs.arrow_values import cells

    try:
        found = pq.ParquetFile(io.BytesIO(data)).read()
    except (pa.ArrowException, OSError, ValueError) as err:
        raise ConfigError(f"{table}: not a readable Parquet file: {err}") from err
    names = _names(table, found.column_names)
    columns = [cells(column) for column in found.columns]
    for number in range(found.num_rows):
        yield TableRow(f"row {number + 1}", {n: c[number] for n, c in zip(names, columns, strict=True)})


def _delimited(table: str, data: bytes) -> Iterator[TableRow]:
    """Yield the rows of a CSV or TSV file."""
    names: list[str] = []
    for record in records(_text(data), "\t" if suffix_of(table) == ".tsv" else ","):
        if record.unclosed:
            raise ConfigError(f"{table}: {record.where}: a quotation mark opens a cell that is never closed: close it")
        cells, fault = record.cells, record.fault
        if not cells and not fault:  # an empty line
            continue
        if names and not fault:
            while len(cells) > len(names) and not cells[-1]:
                cells.pop()
            if len(cells) != len(names):
                fault = f"{len(cells)} cells for {len(names)} columns: quote a cell that holds the separator"
        if names:
            yield TableRow(record.where, dict(zip(names, cells, strict=False)), fault)
        elif fault:
            raise ConfigError(f"{table}: {record.where}: the header cannot be read: {fault}")
        elif any(cells):
            names = _names(table, [cell or f"column_{number}" for number, cell in enumerate(cells, 1)])


def _json(table: str, data: bytes) -> Iterator[TableRow]:
    """Yield the rows of a file with a JSON object a line, or of one with a list of objects. A text is a path."""
    text = _text(data)
    if suffix_of(table) == ".json":
        try:
            whole = json.loads(text, object_pairs_hook=_object)
        except (ValueError, RecursionError):
            if text.lstrip().startswith("["):
                raise ConfigError(f"{table}: not a readable JSON list: write one, or an object a line") from None
        else:
            for number, value in enumerate(whole if isinstance(whole, list) else [whole], 1):
                yield _json_row(f"entry {number}", value)
            return
    for number, line in enumerate(io.StringIO(text), 1):
        if line.strip():
            try:
                value = json.loads(line, object_pairs_hook=_object)
            except (ValueError, RecursionError) as err:
                yield TableRow(f"line {number}", fault=f"not JSON: {err}")
            else:
                yield _json_row(f"line {number}", value)


def _json_row(where: str, value: Any) -> TableRow:
    if isinstance(value, str):
        return TableRow(where, {"path": value})
    if isinstance(value, dict):
        return TableRow(where, value)
    return TableRow(where, fault=f"expected an object with `path`, found {type(value).__name__}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {name.strip(): value for name, value in pairs}
    if len(found) < len(pairs):
        raise ValueError(f"two entries {_twice([name.strip() for name, _ in pairs])!r} in one object")
    return found


def _paths(_table: str, data: bytes) -> Iterator[TableRow]:
    """Yield a row per line that is not empty: its path."""
    for number, line in enumerate(io.StringIO(_text(data)), 1):
        if line.strip():
            yield TableRow(f"line {number}", {"path": line.strip()})


def _text(data: bytes) -> str:
    """Decode a text table; a byte that is not UTF-8 becomes a lone surrogate, which faults its row alone."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "surrogateescape")


def _names(table: str, names: Sequence[str]) -> list[str]:
    """Return the names of the columns without blanks around them; two of one name would hide each other."""
    stripped = [name.strip() for name in names]
    if not all(map(is_text, stripped)):
        raise ConfigError(f"{table}: the names of its columns are not text in UTF-8: save the table in UTF-8")
    if name := _twice(stripped):
        raise ConfigError(f"{table}: the table has two columns {name!r}: rename one of them")
    return stripped


def _twice(names: Sequence[str]) -> str:
    return next((name for name, count in Counter(names).items() if count > 1), "")


# --- values ---


def _checked(row: TableRow) -> TableRow:
    """Return a row with values that a manifest can hold, by columns with text names."""
    try:
        row.values = {printable(str(name)).strip(): _plain(value) for name, value in row.values.items()}
    except RecursionError:
        row.values, row.fault = {}, "a cell is nested too deeply"
    return row


def _plain(value: Any) -> Any:
    """Return a cell as JSON has it: NaN becomes None, infinity its text, bytes text. Nothing else is lost."""
    if isinstance(value, float):
        return None if math.isnan(value) else value if math.isfinite(value) else str(value)
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "surrogateescape")
    if isinstance(value, dict):
        return {printable(str(name)): _inner(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_inner(entry) for entry in value]
    return value if value is None or isinstance(value, (str, int)) else str(value)


def _inner(value: Any) -> Any:
    plain = _plain(value)
    return printable(plain) if isinstance(plain, str) else plain


def as_meta(value: Any) -> str | int | float | bool:
    """Return a cell of a column that travels along as one value: lists and objects become JSON text."""
    if isinstance(value, str):
        return printable(value)
    return value if isinstance(value, (int, float)) else json.dumps(value, ensure_ascii=False)
