"""Writes an export as plain files: `<split>/<kind>/<key>.<ext>`, the records, and the metadata files of layouts.

A file has its final name only when it is whole. An export that starts again keeps every file that has the bytes that it
is to have, and deletes what no pair names any more when all others are in place.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from ffpdata import __version__
from ffpdata.core.errors import FatalError
from ffpdata.core.sections import ExportSettings
from ffpdata.export.dataset import DATASET, check_place, only_writer
from ffpdata.export.layouts.layout import Layout, LayoutPair
from ffpdata.export.pair_record import Records, to_json
from ffpdata.export.reproducible_tar import Member
from ffpdata.export.shard_plan import PlannedPair, damaged_artifact, plan_shards, rows
from ffpdata.export.shards import ahead, chosen_pairs, load_members
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.storage.digests import CHANGED, wrong_content
from ffpdata.storage.store import TEMP, Store

CONTENTS = "layout.json"
FORMAT = "ffpdata-layout-1"
BATCH = 256
"""Rows of `items` that are held at a time."""


def export_files(
    run: RunFolder,
    out: str | Path,
    layouts: Sequence[Layout],
    *,
    sections: Mapping[str, ExportSettings] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[LayoutPair]:
    """Write the accepted pairs as plain files with the metadata of layouts, and return what was written.

    Args:
        run: a curated run.
        out: folder or URL: new, empty, or an earlier export of this kind, which is brought up to date.
        layouts: whose metadata is written; that of an earlier export is replaced.
        sections: as for `shards.export`.
        progress: called with the number of pairs done and of pairs in all.

    Raises:
        FatalError: there is nothing to export, `out` holds something else, or the disk is full.
        DamagedError: an artifact is gone, or is not as it was written.
    """
    store = Store(out)
    with chosen_pairs(run, store, sections) as chosen:
        records = Records(run, chosen.connection, chosen.extras)
        _check_place(store)
        with only_writer(store), ThreadPoolExecutor(os.cpu_count()) as pool:
            before = _documents_before(store)
            _write_contents(store, layouts, before, complete=False)
            written: list[LayoutPair] = []
            known: set[str] = set()
            plans = plan_shards(chosen.connection, run.store, 1 << 62, chosen.extras, chosen.tracks)
            entries = [entry for plan in plans for entry in plan.entries]
            for first in range(0, len(entries), BATCH):
                batch = entries[first : first + BATCH]
                table = rows(chosen.connection, batch[0].place, batch[-1].place)
                made = [records.record(row, entry.key, entry.base) for row, entry in zip(table, batch, strict=True)]
                loads = [
                    partial(load_members, run.store, entry, to_json(record))
                    for entry, record in zip(batch, made, strict=True)
                ]
                for entry, record, members in zip(batch, made, ahead(pool, loads), strict=True):
                    written.append(_pair(record, _place(store, run.store, entry, members)))
                    known.update(written[-1].files.values())
                if progress:
                    progress(len(written), chosen.total)
            documents = _documents(layouts, written)
            for path, text in documents.items():
                store.write_if_changed(path, text.encode())
            for path in before - set(documents):
                store.remove(path)
            _remove_stale(store, known)
            _write_contents(store, layouts, set(documents), complete=True)
            store.clean_temp()
    return written


def _check_place(store: Store) -> None:
    if store.exists(DATASET):
        raise FatalError(f"{store.root} holds an export of shards: name another folder for plain files")
    if not store.exists(CONTENTS):
        check_place(store)


def _place(store: Store, artifacts: Store, entry: PlannedPair, members: Sequence[Member]) -> dict[str, str]:
    """Put the files of a pair where they are to lie; returns member to path. The record is a file, too."""
    paths = {}
    for member in members:
        data = member.content.read_bytes() if isinstance(member.content, Path) else member.content
        facts = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if entry.sha256.get(member.name, facts["sha256"]) != facts["sha256"]:
            raise damaged_artifact(artifacts, entry.files[member.name][0], CHANGED)
        kind, _, extension = member.name.rpartition(".")
        path = f"{entry.split}/{kind or 'record'}/{entry.key}.{extension}"
        if store.is_link(path) or wrong_content(store, path, facts):
            store.write(path, data)
        paths[member.name] = path
    return paths


def _pair(record: Mapping[str, Any], files: Mapping[str, str]) -> LayoutPair:
    captions = {name: text for name, text in record["captions"].items() if name in {"source", "target"}}
    names = ("key", "split", "task", "instruction")
    size = record["geometry"]
    return LayoutPair(
        **{name: record[name] for name in names},
        captions=captions,
        width=size["width"],
        height=size["height"],
        frames=size["frames"],
        fps=size["fps"],
        files=files,
    )


def _documents(layouts: Sequence[Layout], pairs: Sequence[LayoutPair]) -> dict[str, str]:
    found: dict[str, str] = {}
    for layout in layouts:
        for split in dict.fromkeys(pair.split for pair in pairs):
            for name, text in layout.documents(split, [pair for pair in pairs if pair.split == split]).items():
                if "/" in name or not name.startswith(layout.name) or name in found:
                    raise FatalError(f"layout {layout.name!r}: its file {name!r} must begin with {layout.name!r}, once")
                found[name] = text
    return found


def _documents_before(store: Store) -> set[str]:
    """Metadata files that an earlier export wrote, as its table of contents says."""
    try:
        found = json.loads(store.read(CONTENTS))["documents"]
        return {name for name in found if "/" not in name}
    except FileNotFoundError:
        return set()
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise FatalError(f"{store.root}/{CONTENTS} is damaged ({err}): export into a new folder") from err


def _write_contents(store: Store, layouts: Sequence[Layout], documents: set[str], *, complete: bool) -> None:
    data = {"format": FORMAT, "complete": complete, "ffpdata": __version__, "documents": sorted(documents)}
    data["layouts"] = sorted(layout.name for layout in layouts)
    store.write_if_changed(CONTENTS, (json.dumps(data, indent=1, sort_keys=True) + "\n").encode())


def _remove_stale(store: Store, known: set[str]) -> None:
    """Delete files in the folders of splits that no pair names any more."""
    for path in _files(store):
        if path not in known:
            store.remove(path)


def _files(store: Store) -> Iterator[str]:
    for split in store.folders(""):
        if split != TEMP and not store.is_link(split):
            for kind in store.folders(split):
                if not store.is_link(f"{split}/{kind}"):
                    yield from store.list(f"{split}/{kind}")
