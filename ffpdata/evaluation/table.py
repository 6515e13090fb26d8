"""A benchmark of one's own: a table of items, CSV, TSV, JSON lines or Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ffpdata.core.errors import ConfigError, UsageError, nearest
from ffpdata.evaluation.entries import Choice, Entry, chosen_ids
from ffpdata.evaluation.methods import methods_of
from ffpdata.inputs.tables import PARTS, TableRow, read_table

COLUMNS = ("source", "target", "instruction", "target_prompt", "category", "method", "item", "edited_first_frame")
OUTPUTS = ("{item}.mp4", "{item}/generate.mp4")
"""Where a method's folder has its outputs, where the table does not name them."""


def is_table(name: str) -> bool:
    """Say whether the name of a benchmark is that of a table."""
    return Path(name).suffix.lower() in PARTS


def read_items(file: Path, results: Sequence[str], data: Path | None, *, ids: Path | None = None) -> Choice:
    """Read a table of items, or of outputs.

    With a column `target`, a row is an output, and `method` says whose. Without, a row is an item, and every method of
    `results` has `<item>.mp4` or `<item>/generate.mp4`.

    Args:
        file: the table; all `COLUMNS` but one of `target` and `item` may be left out.
        results: as of `methods_of`; with a column `target` none, or the folder that its paths are relative to.
        data: folder that the paths of sources and images are relative to; by default the table's.
        ids: file with the items that count.

    Raises:
        UsageError: it is no readable table, or a row lacks what it needs.
    """
    if not file.is_file():
        raise UsageError(f"{file}: no such table")
    try:
        with file.open("rb") as stream:
            rows = read_table(str(file), stream)
    except ConfigError as err:
        raise UsageError(str(err)) from err
    columns = list(dict.fromkeys(name for row in rows for name in row.values))
    if not rows or not {"target", "item"} & set(columns):
        told = ", ".join(columns) or "none"
        raise UsageError(f"{file}: a column `target` or `item` is needed{nearest('target', columns)}. It has: {told}")
    base = data or file.parent
    items = [_name(row, number) for number, row in enumerate(rows)]
    chosen = set(chosen_ids(ids, items)) if ids else set(items)
    taken = [(name, row) for name, row in zip(items, rows, strict=True) if name in chosen]
    if "target" in columns:
        if len(results) > 1:
            raise UsageError(f"{file} names the outputs: give no results, or the one folder that they lie in")
        at = Path(results[0]).expanduser() if results else file.parent
        entries = [_output(file, name, row, at, base) for name, row in taken]
    else:
        folders = methods_of(results, lambda folder: any(_there(folder, one) for one in items), " or ".join(OUTPUTS))
        entries = [
            _of(row, method, name, _there(at, name) or at / f"{name}.mp4", base)
            for method, at in folders.items()
            for name, row in taken
        ]
    return Choice(entries, f"ids of {ids.name}" if ids else "all", len(chosen), len(set(items)))


def _name(row: TableRow, number: int) -> str:
    if row.fault:
        raise UsageError(f"{row.where}: {row.fault}")
    given = row.values.get("item")
    return str(given).strip() if given not in (None, "") else f"{number:04d}"


def _there(folder: Path, item: str) -> Path | None:
    return next((path for text in OUTPUTS if (path := folder / text.format(item=item)).is_file()), None)


def _output(file: Path, name: str, row: TableRow, at: Path, base: Path) -> Entry:
    if not _text(row.values, "target"):
        raise UsageError(f"{file}: {row.where}: `target` is empty: name where the output is, or would be")
    return _of(row, _text(row.values, "method") or file.stem, name, at / _text(row.values, "target"), base)


def _of(row: TableRow, method: str, item: str, target: Path, base: Path) -> Entry:
    values = row.values
    source, image = _text(values, "source"), _text(values, "edited_first_frame")
    return Entry(
        method,
        item,
        target,
        base / source if source else None,
        base / image if image else None,
        _text(values, "category"),
        _text(values, "instruction"),
        _text(values, "target_prompt"),
    )


def _text(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    return "" if value is None else str(value).strip()
