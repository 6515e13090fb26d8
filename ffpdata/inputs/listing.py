"""Lists an `--input` as items: a folder, a glob or a table, local or remote, with what the user knows about each entry.

Listing opens no media file. An entry that cannot be used (outside the input's folder, no path) becomes an item, too: it
has a `problem`, which the first stage turns into a row with the reason.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ffpdata.core.errors import ConfigError, FatalError, FfpdataWarning, UsageError, nearest
from ffpdata.core.file_names import is_text, path_of, printable, text_of
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
from ffpdata.inputs.tables import NOT_READ, TABLES, TableRow, as_meta, partition_of, parts, read_table, suffix_of

KNOWN_COLUMNS = (
    *("path", "object", "box", "caption", "licence", "url", "style", "reference", "edited_first_frame"),
    *("source_caption", "mask", "edited_frame"),
)
CONTENT = "content"
"""Sub-folder of an input with images for its sources."""
IMAGES = {"styled": "style", "referenced": "reference", "propagated": "edited_first_frame"}
"""Kind of such an input to the sub-folder, and the column, of these images."""
NUMBERED = "edited_frame"
"""Column whose files have a frame's index before them: `24=later.png;36=last.png`."""
FILES = (*IMAGES.values(), "mask", NUMBERED)
"""Columns that name files beside the clip."""
OWN_KIND = {"reference": "referenced", "edited_first_frame": "propagated"}
OWN_KIND |= dict.fromkeys(("source_caption", "mask", NUMBERED), "propagated")
"""Columns that mean something in inputs of one kind alone; elsewhere they are the user's own."""
_UNKNOWN = {"", "nan", "NaN", "NAN", "<NA>", "NaT"}
"""How programs write a missing value into a cell."""


def list_inputs(source: str, settings: InputSettings, limit: int | None = None) -> list[Item]:
    """List an input's entries in a stable order.

    Args:
        source: folder, glob, or a table with a `path` column (CSV, TSV, JSON lines, Parquet or a folder of Parquet
            parts, or a .txt with one path a line); local or a URL such as `s3://bucket/clips`.
        settings: how to read it.
        limit: number of entries to keep, from the first; None keeps all.

    Raises:
        UsageError: nothing is there or matches, or the input is empty.
        ConfigError: a table cannot be read.
        FatalError: the object store refuses access.
        RetryableError: the object store does not answer.
    """
    try:
        return _list(text_of(plain(source)), settings, limit)
    except PermissionError as err:
        raise FatalError(f"--input {source!r}: {err.strerror}. Check what you may read there.") from err


def _list(source: str, settings: InputSettings, limit: int | None) -> list[Item]:
    location, entries = _entries(source, settings)
    if not is_text(location.root):
        raise UsageError(f"--input: the name of the folder '{printable(location.root)}' is not UTF-8: rename it")
    if not entries:
        raise UsageError(f"--input {source!r}: the folder or table is empty, there is nothing to do")
    items: list[Item] = []
    seen: dict[str, int] = {}
    entries = entries[:limit] if limit is not None else entries
    paths = [str(entry.get("path") or "") for entry in entries]
    paths += [str(image) for entry in entries for column in FILES for image in entry.get(column) or []]
    fingerprints = location.fingerprints(paths)
    for entry in entries:
        item = _item(entry, location, fingerprints)
        seen[item.item_id] = seen.get(item.item_id, 0) + 1
        if seen[item.item_id] > 1:  # the same line twice: each needs a row of its own
            item = Item(f"{item.item_id}-{seen[item.item_id]}", item.values)
        items.append(item)
    return items


def _entries(source: str, settings: InputSettings) -> tuple[Location, list[dict[str, Any]]]:
    kind = kind_of(source)
    if kind == "file" and suffix_of(source) in NOT_READ:
        raise UsageError(
            f"--input {source!r}: a list of clips is not read from {suffix_of(source)}: write it as CSV, JSON lines or "
            "Parquet with a `path` column, or as .txt with one path a line; of an archive give what is in it"
        )
    if kind == "file" and suffix_of(source) in TABLES:
        location = location_of(settings.root or parent(source))
        return location, list(_from_table(source, [source], location, settings))
    if kind == "folder":
        location = location_of(source)
        if found := parts(location.files(location.root), source):
            table = location.root
            # A folder that is called like a table stands where the table would: its paths are relative to its place.
            location = location_of(settings.root or (parent(table) if suffix_of(table) in TABLES else table))
            return location, list(_from_table(table, found, location, settings))
        return location, list(_from_folder(location, settings))
    if kind == "file":
        path = source if "://" in source else text_of(str(Path(path_of(source)).absolute()))
        return location_of(parent(source)), [{"path": path}]
    location, matches = match(source)
    if not matches:
        raise UsageError(
            f"--input {source!r}: no such folder, file or glob match. Give a folder, a glob such as 'clips/*.mp4', "
            "or a table (CSV, JSON lines, Parquet) with a `path` column."
        )
    entries: list[dict[str, Any]] = [{"path": m} for m in matches]
    if settings.kind == "styled":  # every image of a glob may style the others; an object's picture is no clip
        _share_images(entries, matches, settings)
    return location, entries


def _from_folder(location: Location, settings: InputSettings) -> Iterator[dict[str, Any]]:
    """List the files below a folder without hidden ones; with images for them those of `content/`, and their images."""
    if settings.kind == "clips":
        yield from ({"path": p} for p in location.files(location.root))
        return
    column = IMAGES[settings.kind]
    if settings.kind == "propagated":
        raise UsageError(
            f"--input {location.root}: a clip and its edited first frame are named together: give a table with the "
            f"columns `path` and `{column}`"
        )
    content, images = location.folder(CONTENT), location.folder(column)
    if not (content or images) and settings.kind == "referenced":
        raise UsageError(
            f"--input {location.root}: put the clips in {CONTENT}/ and the pictures of objects in {column}/, or give a "
            f"table with the columns `path` and `{column}`"
        )
    if bool(content) != bool(images):
        present, missing = (CONTENT, column) if content else (column, CONTENT)
        raise UsageError(
            f"--input {location.root}: there is {present}/ but no {missing}/: put the {missing} files in "
            f"{location.root}/{missing}"
        )
    # Without the two sub-folders, every file is content and every image is a style for the others.
    entries = [{"path": p} for p in location.files(content or location.root)]
    _share_images(entries, location.files(images or location.root), settings)
    yield from entries


def _share_images(entries: list[dict[str, Any]], files: Iterable[str], settings: InputSettings) -> None:
    """Choose images for each entry without any, by hash: a new image changes few of the other choices."""
    column = IMAGES[settings.kind]
    count = settings.styles_per_source if column == "style" else settings.references_per_source
    images = [f for f in files if suffix_of(f) in IMAGE_SUFFIXES]
    if odd := [printable(image) for image in images if not is_text(image)]:
        warnings.warn(f"no {column} is '{odd[0]}': its name is not UTF-8, rename it", FfpdataWarning, stacklevel=2)
        images = [image for image in images if is_text(image)]
    for entry in entries:
        if not entry.get(column):
            path = str(entry.get("path") or "")
            name = printable(Path(path).name)
            others = [i for i in images if i != path]
            ranked = sorted(others, key=lambda i: hashlib.sha256(f"{name}|{Path(i).name}".encode()).digest())
            entry[column] = sorted(ranked[:count])
            entry["offered"] = True


def _from_table(table: str, files: list[str], location: Location, settings: InputSettings) -> Iterator[dict[str, Any]]:
    """List the rows of a table, which may lie in several files."""
    entries: list[dict[str, Any]] = []
    columns, readable = dict[str, None](), False
    beside = PurePosixPath(table).name if files != [table] and location.root == parent(table) else ""
    for file in files:
        inside = file.removeprefix(f"{table}/") if file != table else ""
        with open_source(file) as stream:
            rows = read_table(file, stream)
        for row in rows:
            row.values = partition_of(inside) | row.values
            row.where = f"{inside} {row.where}".strip()
            columns |= dict.fromkeys(row.values)
            readable = readable or not row.fault
            entries.append(_from_row(row, location, beside, settings))
    if readable and "path" not in columns:
        raise ConfigError(
            f"{table}: the table has no column 'path'{nearest('path', columns)}. It has: {', '.join(columns)}"
        )
    if column := IMAGES.get(settings.kind):
        if settings.kind == "propagated":  # each row is an edit of its own
            yield from entries
            return
        entries = _join_images(entries, column)
        folder = location.folder(column)
        _share_images(entries, location.files(folder) if folder else [], settings)
    yield from entries


def _from_row(row: TableRow, location: Location, folder: str, settings: InputSettings) -> dict[str, Any]:
    """Make the entry of a row; `folder` is the name of the one with the table's parts, where paths lie beside it."""
    fault = row.fault
    entry: dict[str, Any] = {}
    # A column `reference` of a table for other pipelines is the user's own, as every other that is not known.
    known = [name for name in KNOWN_COLUMNS if OWN_KIND.get(name, settings.kind) == settings.kind]
    for name in known:
        value = row.values.get(name)
        entry[name] = value = None if isinstance(value, str) and value.strip() in _UNKNOWN else value
        if name not in ("box", *FILES) and isinstance(value, (list, dict, bool)):
            fault, entry[name] = fault or f"{name} {value!r}: expected text", None
        elif name not in ("path", "box", *FILES) and isinstance(value, str) and not is_text(value):
            fault, entry[name] = fault or f"{name} '{printable(value)}' is not text in UTF-8", None
    for name in FILES:
        images = entry.get(name)
        if isinstance(images, str):
            images = [s.strip() for s in images.split(";") if s.strip()]
        elif images is not None and not (isinstance(images, list) and all(isinstance(s, str) for s in images)):
            fault, images = fault or f"{name} {images!r}: expected paths", None
        if name == NUMBERED and images:
            entry["edited_frame_indices"], images, wrong = _numbered(images)
            fault = fault or wrong
        entry[name] = [location.join(s) for s in images or []]
    path = str(entry["path"]) if entry["path"] is not None else ""
    if folder and path.startswith("../"):  # a path from where the part lies
        path = str(PurePosixPath(folder) / path).removeprefix(f"{folder}/../")
    entry["path"] = location.join(path) if path else ""
    entry["meta"] = {
        name: as_meta(value)
        for name, value in row.values.items()
        if name not in known and value is not None and value != ""
    }
    if fault:
        entry["problem"] = ["bad_row", f"{row.where}: {fault}"]
    elif not path:
        entry["problem"] = ["missing_path", f"{row.where}: the row's `path` is empty"]
    return entry


def _numbered(cells: list[str]) -> tuple[list[int], list[str], str]:
    """Split `24=later.png` into indices and paths; and say what is wrong with them."""
    parts = [cell.partition("=") for cell in cells]
    for cell, (index, _, path) in zip(cells, parts, strict=True):
        if not index.strip().isdecimal() or not path.strip():
            return [], [], f"{NUMBERED} {cell!r}: write INDEX=IMAGE, the frame's index from 0, e.g. 24=later.png"
    return [int(index) for index, _, _ in parts], [path.strip() for *_, path in parts], ""


def _join_images(entries: list[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    """Join the lines of each source to one entry with all their images, in the order of the table."""
    joined: dict[str, dict[str, Any]] = {}
    for entry in entries:
        same = digest({k: v for k, v in entry.items() if k != column})
        if same in joined:
            joined[same][column] += [s for s in entry[column] if s not in joined[same][column]]
        else:
            joined[same] = entry
    return list(joined.values())


def _item(entry: Mapping[str, Any], location: Location, fingerprints: Mapping[str, str]) -> Item:
    path = str(entry.get("path") or "")
    images = {column: [str(image) for image in entry.get(column) or []] for column in FILES}
    values: dict[str, Any] = {"path": printable(path), "root": location.root, "fingerprint": fingerprints[path]}
    problem = entry.get("problem") or _problem(path, location)
    for image in (image for found in images.values() for image in found):
        problem = problem or _problem(image, location)
    if problem:
        values["problem"] = problem
    for name in ("object", "caption", "source_caption"):
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
    values |= _named_files(entry, images, fingerprints)
    if entry.get("meta"):
        values["meta"] = dict(entry["meta"])
    counted = ("licence", *(f"{column}_paths" for column in FILES), "edited_frame_indices")
    hints = {k: v for k, v in values.items() if k.startswith("given_") or k in counted}
    return Item(f"input/{digest(values['path'], hints)[:16]}", values)


def _named_files(
    entry: Mapping[str, Any], images: Mapping[str, list[str]], fingerprints: Mapping[str, str]
) -> dict[str, Any]:
    """Return the columns of the files that an entry names beside its clip."""
    values: dict[str, Any] = {}
    for column, found in images.items():
        if found:
            values[f"{column}_paths"] = [printable(image) for image in found]
            values[f"{column}_fingerprints"] = [fingerprints[image] for image in found]
            values |= {"styles_offered": True} if column == "style" and entry.get("offered") else {}
    if images[NUMBERED]:
        values["edited_frame_indices"] = list(entry["edited_frame_indices"])
    return values


def _problem(path: str, location: Location) -> list[str] | None:
    if not is_text(path):
        return ["name_not_utf8", f"the name '{printable(path)}' is not UTF-8, which no table can hold: rename the file"]
    return location.problem(path)


def _box(value: Any) -> list[float] | None:
    """Return a box of four finite numbers; None where the cell is none."""
    parts = value.strip("[]() ").replace(";", ",").split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or len(parts) != 4 or any(isinstance(p, bool) for p in parts):
        return None
    try:
        box = [float(p) for p in parts]
    except (TypeError, ValueError, OverflowError):
        return None
    return box if all(map(math.isfinite, box)) and 0 <= box[0] < box[2] and 0 <= box[1] < box[3] else None
