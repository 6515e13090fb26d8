"""`--input` into items: a folder, a glob or a table, each entry with what the user knows about it.

Listing opens no media file. An entry that cannot be used (outside the input's folder, no path) is an item all the same:
it carries its `problem`, and the first stage turns that into a row with its reason.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ffpdata.core.config import InputSettings
from ffpdata.core.errors import ConfigError, UsageError, nearest
from ffpdata.core.keys import digest
from ffpdata.core.stage import Item

TABLE_SUFFIXES = {".csv", ".tsv", ".parquet"}
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}
VIDEO_SUFFIXES = {
    ".mp4",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".m4v",
    ".ts",
    ".mts",
    ".mpg",
    ".mpeg",
    ".3gp",
    ".wmv",
    ".flv",
}
KNOWN_COLUMNS = ("path", "object", "box", "caption", "licence", "url", "style")
CONTENT, STYLE = "content", "style"
"""Sub-folders of a stylization input."""


def list_inputs(source: str, settings: InputSettings, limit: int | None = None) -> list[Item]:
    """List an input's entries in a stable order.

    Args:
        source: folder, glob, or a CSV, TSV or Parquet table with a `path` column.
        settings: how to read it.
        limit: keep only the first so many entries.

    Raises:
        ConfigError: nothing is there, nothing matches, or a table cannot be read.
    """
    given = Path(source)
    if given.is_file() and given.suffix.lower() in TABLE_SUFFIXES:
        root = Path(settings.root) if settings.root else given.parent
        entries = list(_from_table(given, root.resolve(), settings))
    elif given.is_dir():
        root, entries = given.resolve(), list(_from_folder(given.resolve(), settings))
    elif given.is_file():
        root, entries = given.parent.resolve(), [{"path": str(given.absolute())}]
    else:
        matches = sorted(glob.glob(source, recursive=True))  # noqa: PTH207 - absolute patterns, which Path.glob refuses
        if not matches:
            raise UsageError(
                f"--input {source!r}: no such folder, file or glob match. Give a folder, a glob such as 'clips/*.mp4', "
                "or a CSV or Parquet table with a `path` column."
            )
        root = _fixed_part(source)
        entries = [{"path": str(Path(m).absolute())} for m in matches]
        if settings.kind == "styled":
            _pair_styles(entries, [e["path"] for e in entries], settings)
    if not entries:
        raise UsageError(f"--input {source!r}: the folder or table is empty, there is nothing to do")
    items: list[Item] = []
    seen: dict[str, int] = {}
    for entry in entries[:limit] if limit is not None else entries:
        item = _item(entry, root.resolve())
        seen[item.item_id] = seen.get(item.item_id, 0) + 1
        if seen[item.item_id] > 1:  # the same line twice: the second must still end in a row of its own
            item = Item(f"{item.item_id}-{seen[item.item_id]}", item.values)
        items.append(item)
    return items


def _from_folder(root: Path, settings: InputSettings) -> Iterator[dict[str, Any]]:
    """Every file below a folder, hidden ones left out; `content/` and `style/` for stylization."""
    if settings.kind == "clips":
        yield from ({"path": str(p)} for p in _files(root))
        return
    content, style = root / CONTENT, root / STYLE
    if content.is_dir() != style.is_dir():
        there, lacking = (CONTENT, STYLE) if content.is_dir() else (STYLE, CONTENT)
        raise UsageError(
            f"--input {root}: there is {there}/ but no {lacking}/: put the {lacking} files in {root / lacking}"
        )
    # Without the two sub-folders, every file is content and every image is a style for the others.
    entries = [{"path": str(p)} for p in _files(content if content.is_dir() else root)]
    _pair_styles(entries, [str(p) for p in _files(style if style.is_dir() else root)], settings)
    yield from entries


def _files(folder: Path) -> Iterator[Path]:
    """Entries below a folder in sorted order; a folder whose name looks like a media file counts as an entry."""
    try:
        paths = sorted(folder.iterdir(), key=lambda p: p.name)
    except OSError:  # not ours to read: the folder itself becomes the entry, and its row says so
        yield folder
        return
    for path in paths:
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink() and path.suffix.lower() not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
            yield from _files(path)
        else:
            yield path


def _pair_styles(entries: list[dict[str, Any]], files: Iterable[str], settings: InputSettings) -> None:
    """Give each entry without styles its share of the images, by hash: adding one image moves few of the others."""
    images = [f for f in files if Path(f).suffix.lower() in IMAGE_SUFFIXES]
    for entry in entries:
        if not entry.get("style"):
            path = str(entry.get("path") or "")
            name = Path(path).name
            others = [i for i in images if i != path]
            ranked = sorted(others, key=lambda i: hashlib.sha256(f"{name}|{Path(i).name}".encode()).digest())
            entry["style"] = sorted(ranked[: settings.styles_per_source])


def _from_table(table: Path, root: Path, settings: InputSettings) -> Iterator[dict[str, Any]]:
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
        entry["style"] = [_inside(root, s) for s in entry["style"] or []]
        entry["path"] = _inside(root, entry["path"]) if entry["path"] else ""
        entry["meta"] = {k: v for k, v in row.items() if k not in KNOWN_COLUMNS and v not in (None, "")}
        entries.append(entry)
    if settings.kind == "styled":
        entries = _join_styles(entries)
        folder = root / STYLE
        _pair_styles(entries, [str(p) for p in _files(folder)] if folder.is_dir() else [], settings)
    yield from entries


def _inside(root: Path, path: str) -> str:
    return path if "://" in path else str(root / path)


def _join_styles(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per source, however many lines name it: their styles together, in the order of the table."""
    joined: dict[str, dict[str, Any]] = {}
    for entry in entries:
        same = digest({k: v for k, v in entry.items() if k != "style"})
        if same in joined:
            joined[same]["style"] += [s for s in entry["style"] if s not in joined[same]["style"]]
        else:
            joined[same] = entry
    return list(joined.values())


def _read_table(table: Path) -> Iterator[dict[str, Any]]:
    if table.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            yield from pq.read_table(table).to_pylist()
        except (pa.ArrowInvalid, OSError) as err:
            raise ConfigError(f"{table}: not a readable Parquet file: {err}") from err
        return
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            for row in csv.DictReader(stream, delimiter="\t" if table.suffix.lower() == ".tsv" else ","):
                yield {k: (v or "").strip() if isinstance(v, str) else v for k, v in row.items() if k is not None}
    except (UnicodeDecodeError, csv.Error) as err:
        raise ConfigError(f"{table}: not a readable CSV file in UTF-8: {err}") from err


def _fixed_part(pattern: str) -> Path:
    """The folder of a glob before its first wildcard."""
    parts = []
    for part in Path(pattern).absolute().parts[:-1]:
        if any(c in part for c in "*?["):
            break
        parts.append(part)
    return Path(*parts)


def _item(entry: Mapping[str, Any], root: Path) -> Item:
    path = str(entry.get("path") or "")
    values: dict[str, Any] = {"path": path, "root": str(root), "fingerprint": _fingerprint(path)}
    problem = _problem(path, root)
    for style in entry.get("style") or []:
        problem = problem or _problem(style, root)
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
        values["style_fingerprints"] = [_fingerprint(s) for s in entry["style"]]
    if entry.get("meta"):
        values["meta"] = {k: v if isinstance(v, (str, int, float, bool)) else str(v) for k, v in entry["meta"].items()}
    hints = {k: v for k, v in values.items() if k.startswith("given_") or k in ("licence", "style_paths")}
    return Item(f"input/{digest(path, hints)[:16]}", values)


def _problem(path: str, root: Path) -> list[str] | None:
    """Why an entry cannot be used, as [reason, detail]; None where it can."""
    if not path:
        return ["missing_path", "the row's `path` is empty"]
    if "://" in path:
        return ["path_outside_input", f"{path} is a URL: download it into {root} first"]
    if "\0" in path:
        return ["missing_path", "the path holds a NUL character"]
    try:
        real = Path(path).resolve()
    except (OSError, RuntimeError) as err:
        return ["unreadable", f"{path}: {err}"]
    if not real.is_relative_to(root):
        return [
            "path_outside_input",
            f"{path} lies outside {root}: move it there, or allow more with --set input.root=DIR",
        ]
    return None


def _fingerprint(path: str) -> str:
    """Size and time of a file: what tells cheaply that it must be hashed again."""
    try:
        stat = os.stat(path)  # noqa: PTH116 - the path may hold anything
    except (OSError, ValueError):
        return "missing"
    return f"{stat.st_size}-{stat.st_mtime_ns}"


def _box(value: Any) -> list[float] | None:
    parts = value.replace(";", ",").split(",") if isinstance(value, str) else list(value)
    try:
        box = [float(p) for p in parts]
    except (TypeError, ValueError):
        return None
    return box if len(box) == 4 and 0 <= box[0] < box[2] and 0 <= box[1] < box[3] else None
