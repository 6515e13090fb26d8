"""What a query found, as JSON, as CSV, and as text for a terminal or a file."""

from __future__ import annotations

import base64
import csv
import datetime as dt
import io
import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def json_text(table: pa.Table) -> str:
    """Return rows as a JSON list of objects; what JSON has no number for (NaN, infinity) is null."""
    return json.dumps(_rows(table, _as_json), allow_nan=False)


def csv_text(table: pa.Table) -> str:
    """Return rows as CSV with a header, also where there are none; lists and objects are JSON text."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(table.column_names)
    writer.writerows(row.values() for row in _rows(table, _as_cell))
    return text.getvalue()


def table_text(table: pa.Table, width: int | None) -> str:
    """Return rows as aligned columns, all of them.

    Args:
        table: the result.
        width: columns of the terminal. Rows that are wider are shown one below the other, a line per column. None
            where the output is no terminal: a line per row, however long.
    """
    from ffpdata.runners.tables import rows_text

    rows = _rows(table, lambda value: value)
    text = rows_text(rows)
    if width is None or max(map(len, text.split("\n"))) <= width:
        return text
    longest = max(map(len, table.column_names))
    blocks = []
    for number, row in enumerate(rows, 1):
        lines = [f"{name.ljust(longest)}  {'' if value is None else value}".rstrip() for name, value in row.items()]
        blocks.append("\n".join([f"-- row {number} of {len(rows)}", *lines]))
    return "\n".join(blocks)


def _rows(table: pa.Table, convert: Callable[[Any], Any]) -> list[dict[str, Any]]:
    from ffpdata.inputs.arrow_values import cells

    columns = [[convert(value) for value in cells(column)] for column in table.columns]
    return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _as_json(value: Any) -> Any:
    """Return a value as JSON has it: times in ISO 8601, blobs in base64, a decimal as a number where that is exact."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        if value == value.to_integral_value():
            return int(value)
        return float(value) if Decimal(repr(float(value))) == value else str(value)
    if isinstance(value, (dt.date, dt.time)):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(name): _as_json(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(entry) for entry in value]
    return str(value)


def _as_cell(value: Any) -> Any:
    if isinstance(value, float):
        return value
    plain = _as_json(value)
    return json.dumps(plain) if isinstance(plain, (dict, list)) else plain
