"""Lists an `--input` as items: a folder, a glob or a table, local or remote, with what the user knows about each entry.

Listing opens no media file. An entry that cannot be used (outside the input's folder, no path) becomes an item, too: it
has a `problem`, which the first stage turns into a row with the reason.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ffpdata.core.errors import ConfigError, FatalError, UsageError, nearest
from ffpdata.core.keys import digest
from ffpdata.core.sections import InputSettings
from ffpdata.core.stage import Item
from ffpdata.inputs.locations import (
    IMAGE_SUFFIXES,
    Location,
    kind_of,
    location_of,
    match,
    open_source,
    parent,
    plain,
)

TABLE_SUFFIXES = {".csv", ".tsv", ".parquet"}
KNOWN_COLUMNS = ("path", "object", "box", "caption", "licence", "url", "style")
CONTENT, STYLE = "content", "style"
"""Sub-folders of a stylization input."""


def list_inputs(source: str, settings: InputSettings, limit: int | None = None) -> list[Item]:
    """List an input's entries in a stable order.

    Args:
        source: folder, glob, or a CSV, TSV or Parquet table with a `path` column; local or a URL such as
            `s3://bucket/clips`.
        settings: how to read it.
        limit: number of entries to keep, from the first; None keeps all.

    Raises:
        UsageError: nothing is there or matches, or the input is empty.
        ConfigError: a table cannot be read.
        FatalError: the object store refuses access.
        RetryableError: the object store does not answer.
    """
    try:
        return _list(plain(source), settings, limit)
    except PermissionError as err:
        raise FatalError(f"--input {source!r}: {err.strerror}. Check what you may read there.") from err


def _list(source: str, settings: InputSettings, limit: int | None) -> list[Item]:
    kind = kind_of(source)
    if kind == "file" and PurePosixPath(source).suffix.lower() in TABLE_SUFFIXES:
        location = location_of(settings.root or parent(source))
        entries = list(_from_table(source, location, settings))
    elif kind == "folder":
        location = location_of(source)
        entries = list(_from_folder(location, settings))
    elif kind == "file":
        location = location_of(parent(source))
        entries = [{"path": source if "://" in source else str(Path(source).absolute())}]
    else:
        location, matches = match(source)
        if not matches:
            raise UsageError(
                f"--input {source!r}: no such folder, file or glob match. Give a folder, a glob such as 'clips/*.mp4', "
                "or a CSV or Parquet table with a `path` column."
            )
        entries = [{"path": m} for m in matches]
        if settings.kind == "styled":
            _pair_styles(entries, [e["path"] for e in entries], settings)
    if not entries:
        raise UsageError(f"--input {source!r}: the folder or table is empty, there is nothing to do")
    items: list[Item] = []
    seen: dict[str, int] = {}
    entries = entries[:limit] if limit is not None else entries
    fingerprints = location.fingerprints(
        str(path) for e in entries for path in (e.get("path") or "", *(e.get("style") or []))
    )
    for entry in entries:
        item = _item(entry, location, fingerprints)
        seen[item.item_id] = seen.get(item.item_id, 0) + 1
        if seen[item.item_id] > 1:  # the same line twice: each needs a row of its own
            item = Item(f"{item.item_id}-{seen[item.item_id]}", item.values)
        items.append(item)
    return items


def _from_folder(location: Location, settings: InputSettings) -> Iterator[dict[str, Any]]:
    """List the files below a folder without hidden ones; for stylization those of `content/`, with their styles."""
    if settings.kind == "clips":
        yield from ({"path": p} for p in location.files(location.root))
        return
    content, style = location.folder(CONTENT), location.folder(STYLE)
    if bool(content) != bool(style):
        present, missing = (CONTENT, STYLE) if content else (STYLE, CONTENT)
        raise UsageError(
            f"--input {location.root}: there is {present}/ but no {missing}/: put the {missing} files in "
            f"{location.root}/{missing}"
        )
    # Without the two sub-folders, every file is content and every image is a style for the others.
    entries = [{"path": p} for p in location.files(content or location.root)]
    _pair_styles(entries, location.files(style or location.root), settings)
    yield from entries


def _pair_styles(entries: list[dict[str, Any]], files: Iterable[str], settings: InputSettings) -> None:
    """Choose style images for each entry without any, by hash: a new image changes few of the other choices."""
    images = [f for f in files if Path(f).suffix.lower() in IMAGE_SUFFIXES]
    for entry in entries:
        if not entry.get("style"):
            path = str(entry.get("path") or "")
            name = Path(path).name
            others = [i for i in images if i != path]
            ranked = sorted(others, key=lambda i: hashlib.sha256(f"{name}|{Path(i).name}".encode()).digest())
            entry["style"] = sorted(ranked[: settings.styles_per_source])


def _from_table(table: str, location: Location, settings: InputSettings) -> Iterator[dict[str, Any]]:
    rows = list(_read_table(table))
    columns = list(rows[0]) if rows else []
    if rows and "path" not in columns:
        raise ConfigError(
            f"{table}: the table has no column 'path'{nearest('path', columns)}. It has: {', '.join(columns)}"
        )
    entries = []
    for row in rows:
        entry = {name: row.get(name) for name in KNOWN_COLUMNS}
        if isinstance(entry["style"], str):
            entry["style"] = [s.strip() for s in entry["style"].split(";") if s.strip()]
        entry["style"] = [location.join(str(s)) for s in entry["style"] or []]
        entry["path"] = location.join(str(entry["path"])) if entry["path"] else ""
        entry["meta"] = {k: v for k, v in row.items() if k not in KNOWN_COLUMNS and v not in (None, "")}
        entries.append(entry)
    if settings.kind == "styled":
        entries = _join_styles(entries)
        folder = location.folder(STYLE)
        _pair_styles(entries, location.files(folder) if folder else [], settings)
    yield from entries


def _join_styles(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join the lines of each source to one entry with all their styles, in the order of the table."""
    joined: dict[str, dict[str, Any]] = {}
    for entry in entries:
        same = digest({k: v for k, v in entry.items() if k != "style"})
        if same in joined:
            joined[same]["style"] += [s for s in entry["style"] if s not in joined[same]["style"]]
        else:
            joined[same] = entry
    return list(joined.values())


def _read_table(table: str) -> Iterator[dict[str, Any]]:
    suffix = PurePosixPath(table).suffix.lower()
    with open_source(table) as stream:
        if suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                yield from pq.read_table(stream).to_pylist()
            except (pa.ArrowInvalid, OSError) as err:
                raise ConfigError(f"{table}: not a readable Parquet file: {err}") from err
            return
        try:
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
            for row in csv.DictReader(text, delimiter="\t" if suffix == ".tsv" else ","):
                yield {k: (v or "").strip() if isinstance(v, str) else v for k, v in row.items() if k is not None}
        except (UnicodeDecodeError, csv.Error) as err:
            raise ConfigError(f"{table}: not a readable CSV file in UTF-8: {err}") from err


def _item(entry: Mapping[str, Any], location: Location, fingerprints: Mapping[str, str]) -> Item:
    path = str(entry.get("path") or "")
    values: dict[str, Any] = {"path": path, "root": location.root, "fingerprint": fingerprints[path]}
    problem = location.problem(path) if path else ["missing_path", "the row's `path` is empty"]
    for style in entry.get("style") or []:
        problem = problem or location.problem(style)
    if problem:
        values["problem"] = problem
    for name in ("object", "caption"):
        if entry.get(name):
            values[f"given_{name}"] = " ".join(str(entry[name]).split())
    if entry.get("box"):
        box = _box(entry["box"])
        if box is None:
            values.setdefault(
                "problem", ["bad_box", f"box {entry['box']!r}: write x0,y0,x1,y1 with x0 < x1 and y0 < y1"]
            )
        else:
            values["given_box"] = box
    for name in ("licence", "url"):
        if entry.get(name):
            values[name] = str(entry[name])
    if entry.get("style"):
        values["style_paths"] = list(entry["style"])
        values["style_fingerprints"] = [fingerprints[s] for s in entry["style"]]
    if entry.get("meta"):
        values["meta"] = {k: v if isinstance(v, (str, int, float, bool)) else str(v) for k, v in entry["meta"].items()}
    hints = {k: v for k, v in values.items() if k.startswith("given_") or k in ("licence", "style_paths")}
    return Item(f"input/{digest(path, hints)[:16]}", values)


def _box(value: Any) -> list[float] | None:
    parts = value.replace(";", ",").split(",") if isinstance(value, str) else list(value)
    try:
        box = [float(p) for p in parts]
    except (TypeError, ValueError):
        return None
    return box if len(box) == 4 and 0 <= box[0] < box[2] and 0 <= box[1] < box[3] else None
