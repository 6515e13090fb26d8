"""Python values of Arrow columns, also of those cells that Python has no value for."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

_NO_VALUE = (ValueError, OverflowError, LookupError, ImportError, pa.ArrowException)
"""What pyarrow raises for a cell: a text that is not UTF-8, a time outside years 1 to 9999, an unknown time zone."""


def cells(column: pa.ChunkedArray | pa.Array) -> list[Any]:
    """Return the values of a column; a cell without a Python value becomes its bytes, or else its text."""
    try:
        return list(column.to_pylist())
    except _NO_VALUE:
        return [_cell(scalar) for scalar in column]


def _cell(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except _NO_VALUE:
        pass
    if isinstance(scalar, pa.DictionaryScalar):
        return _cell(scalar.value)
    if isinstance(scalar, pa.StructScalar):
        return {name: _cell(scalar[number]) for number, name in enumerate(scalar.type.names)}
    if isinstance(scalar, pa.ListScalar):  # large lists, fixed lists and maps, too
        return [_cell(value) for value in scalar.values]
    wanted = pa.binary() if pa.types.is_string(scalar.type) else pa.string()
    for kind in (pa.large_binary() if pa.types.is_large_string(scalar.type) else wanted, pa.int64()):
        try:
            return scalar.cast(kind).as_py()
        except _NO_VALUE:
            continue
    return f"unreadable {scalar.type}"
