"""Takes sources out of a run: their items end as `taken_down`, and every file that was made of them is deleted.

The order makes it safe to kill: the log first, which later starts and this command go by; then what shows the sources
to people; then the rows; then the files. What was begun is found in the log, and each step can be done again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from ffpdata.core.errors import ConfigError
from ffpdata.curate.curation import bonds, curate
from ffpdata.export.extras import Extras
from ffpdata.export.inverse import is_inverse
from ffpdata.export.shard_plan import choose, places_of
from ffpdata.manifests.manifest import COMMON, worker_label
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.sql_text import literal, quote
from ffpdata.manifests.tombstones import STYLE, TAKEN_DOWN, Tombstone, Tombstones
from ffpdata.refine import FOLDER as ROUNDS
from ffpdata.report import gallery_media
from ffpdata.report.page import REPORT, write_report
from ffpdata.review import panel_video
from ffpdata.review.pairs import FILES
from ffpdata.runners.flow import taken_down_key
from ffpdata.runners.task import record_path
from ffpdata.storage.lock import run_lock
from ffpdata.takedown.request import Takedown, now, resolve


def take_down(run: RunFolder, asked: Sequence[str], reason: str = "") -> Takedown:
    """Take sources out of a run. The same call again completes what was interrupted, and otherwise changes nothing.

    Args:
        run: one that is not going on.
        asked: names of sources, as `request.resolve` takes them. None completes what was interrupted.
        reason: for the log and the items' rows.

    Raises:
        UsageError: the run has no such source.
        RunLockedError: the run is going on.
    """
    with run_lock(run.store) as lock:
        with run.reading() as connection:
            sources = resolve(asked, lambda: _known(run, connection), run.store.root)
            stones = Tombstones.load(run.store)
            new = {source: name for source, name in sources.items() if source not in stones.sources}
            if new:
                stones = stones + _stones(run, connection, new, reason)
                stones.save(run.store)
            ends = _ends(run, connection, stones)
            _mark(connection, run, stones)
            previews = _previews(connection, run)
            files = _files(connection, run) | {record_path(key) for key in _keys(connection, run)}
        pending = stones.pending
        pairs = [pair for pair in Tombstones(pending).pairs if not is_inverse(str(pair["item_id"]))]
        done = Takedown(sorted(new), sorted(set(sources) - set(new)), pairs=len(pairs))
        there = [path for path in sorted(files) if run.store.exists(path)]
        if ends or there:
            for path in (REPORT, *sorted(previews)):
                run.store.remove(path)
        for stage, rows in ends.items():
            lock.check()
            run.manifest.append(stage, rows, COMMON)
        for path in there:
            run.store.remove(path)
        done.files = len(there)
        done.notes += _rounds(run, stones)
        curate(run, guard=lock.check)
        if any(stone.report for stone in pending):
            write_report(run)
        if pending:
            stones.finished().save(run.store)
    return done


def _known(run: RunFolder, connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str]]:
    """Names of the inputs, items and style images that a run ever had, and their source ids."""
    for stages in run.tracks().values():
        view = connection.view(f"{stages[0]}_history")
        wanted = [c for c in ("item_id", "entered_id", "path", "style_paths", "style_ids") if c in view.columns]
        for row in _rows(view.filter("source_id <> ''").project(", ".join(["source_id", *wanted]))):
            yield from ((row[c], row["source_id"]) for c in ("item_id", "entered_id", "path") if row.get(c))
            yield from zip(row.get("style_paths") or (), row.get("style_ids") or (), strict=False)


def _stones(
    run: RunFolder, connection: duckdb.DuckDBPyConnection, new: Mapping[str, str], reason: str
) -> list[Tombstone]:
    """The tombstones of sources, with what the others need, as long as the rows that tell it are current."""
    tied, tracks, report = bonds(run, connection, new), run.tracks(), run.store.exists(REPORT)
    try:
        extras = Extras.of(run.pipelines())
    except ConfigError:  # code of the user's own is gone: only the places in shards are then less exact
        extras = Extras()
    stones = [
        Tombstone(source, name, reason, now(), False, report, [], tied[source].groups, tied[source].twins)
        for source, name in new.items()
    ]
    # Places of inverse pairs are noted whether they are exported now or not: an export may ask for them.
    extras = extras.with_inverse()
    if tracks and choose(connection, tracks, extras, only=Tombstones(stones)):
        shown = {(row["track"], row["item_id"]): row for row in _rows(connection.table("chosen"))}
        for place in places_of(connection, run.store, extras, tracks):
            row = shown[place["track"], place["item_id"]]
            for stone in stones:
                if Tombstones([stone]).covers(row):
                    stone.pairs.append(place)
    return stones


def _ends(run: RunFolder, connection: duckdb.DuckDBPyConnection, stones: Tombstones) -> dict[str, list[dict[str, Any]]]:
    """Rows with which the items end, by stage: at the first stage after the one that named the source.

    Args:
        run: the run.
        connection: to its views.
        stones: of what is taken down.
    """
    common = {"status": "rejected", "reason": TAKEN_DOWN, "attempt": 1, "seconds": 0.0, "cpu_seconds": 0.0}
    common |= {"worker": worker_label(), "started_at": datetime.now(UTC)}
    found: dict[str, list[dict[str, Any]]] = {}
    for track, stages in run.tracks().items():
        named: set[str] = set()
        for number, stage in enumerate(stages[:-1]):
            view = connection.view(stage)
            columns = view.columns if STYLE in view.columns and not named else ()
            named |= {STYLE} & set(columns)
            wanted = ["source_id"] if not number else [STYLE] if columns else []
            if not wanted:
                continue
            mine = f"track = {literal(track)} and status = 'ok' and {stones.condition(wanted)}"
            names = ["item_id", "parent_id", "source_id", "key", *({STYLE} & set(view.columns))]
            for row in _rows(view.filter(mine).project(", ".join(names))):
                entered = f"track = {literal(track)} and entered_id = {literal(row['item_id'])}"
                after = stages[number + 1 :]
                ended = {s: connection.view(s).filter(entered).project("reason").fetchall() for s in after}
                at = next((s for s in after if ended[s]), after[0])
                if (TAKEN_DOWN,) in ended[at]:
                    continue
                end = {name: row[name] for name in ("item_id", "parent_id", "source_id")}
                end |= {"entered_id": row["item_id"], "track": track, "stage": at, "upstream": row["key"]}
                end |= {"key": taken_down_key(at, row["item_id"]), "error": stones.why(stones.covers(row))}
                found.setdefault(at, []).append(common | end)
    return found


def _mark(connection: duckdb.DuckDBPyConnection, run: RunFolder, stones: Tombstones) -> None:
    """Make the table `gone (track, item_id)` of the items that show a style image that was taken down."""
    connection.execute("create temp table gone (track varchar, item_id varchar)")
    connection.execute("create temp table gone_sources as select unnest(?) as source_id", [sorted(stones.sources)])
    for stage in _stages(run):
        view = connection.view(f"{stage}_history")
        if STYLE in view.columns:
            names = f"from {quote(f'{stage}_history')} where {stones.condition([STYLE])}"
            connection.execute(f"insert into gone select distinct track, item_id {names}")


_GONE = (
    "(coalesce(source_id in (from gone_sources), false) or exists (select 1 from gone g where g.track = h.track and "
    "(h.item_id = g.item_id or starts_with(h.item_id, g.item_id || '/'))))"
)
"""SQL condition for rows of a history `h` that were made of what is taken down."""


def _files(connection: duckdb.DuckDBPyConnection, run: RunFolder) -> set[str]:
    """Paths of the files that taken items ever named and no other item did."""
    named: set[str] = set()
    shared: set[str] = set()
    for stage in _stages(run):
        view = connection.view(f"{stage}_history")
        for name, kind in zip(view.columns, view.types, strict=True):
            if name in COMMON.names or str(kind) != "VARCHAR":
                continue
            files = f"starts_with({quote(name)}, {literal(f'artifacts/{name}/')})"
            gone = f"(select {quote(name)} as path from {quote(f'{stage}_history')} h where {files} and {_GONE})"
            stay = f"(select {quote(name)} as path from {quote(f'{stage}_history')} h where {files} and not {_GONE})"
            named |= {path for (path,) in connection.execute(f"select distinct path from {gone}").fetchall()}
            both = f"select distinct path from {stay} semi join {gone} using (path)"
            shared |= {path for (path,) in connection.execute(both).fetchall()}
    return named - shared


def _keys(connection: duckdb.DuckDBPyConnection, run: RunFolder) -> set[str]:
    """Keys of the outcome records of taken items, but for those whose answer another item shares."""
    found: set[str] = set()
    for stage in _stages(run):
        table = f"from {quote(f'{stage}_history')} h"
        gone = f"select key, entered_id {table} where {_GONE}"
        shared = f"select o.key from (select key, entered_id {table} where not {_GONE}) o join ({gone}) g"
        shared += " on o.key = g.key and o.entered_id <> g.entered_id"
        found |= {key for (key,) in connection.execute(f"select key from ({gone}) except ({shared})").fetchall()}
    return found


def _previews(connection: duckdb.DuckDBPyConnection, run: RunFolder) -> set[str]:
    """Previews that show one of the files: all of the report's, which are few, and the review page's by their names.

    Those are a hash of the paths that they show: of each target, with whatever source and mask it ever had.
    """
    found = set(run.store.list(gallery_media.FOLDER))
    folders = [f"{panel_video.FOLDER}/{name}" for name in run.store.folders(panel_video.FOLDER)]
    there = [path for folder in folders for path in run.store.list(folder)]
    if not there:
        return found
    files: dict[str, dict[str, set[str]]] = {}
    above = "exists (select 1 from gone g where starts_with(g.item_id, h.item_id || '/'))"
    for stage in _stages(run):
        history = quote(f"{stage}_history")
        for kind, column in FILES.items():
            if column in connection.view(f"{stage}_history").columns:
                rows = f"select distinct item_id, {column} from {history} h where {column} is not null"
                for item, path in connection.execute(f"{rows} and ({_GONE} or {above})").fetchall():
                    files.setdefault(item, {}).setdefault(kind, set()).add(path)
    wanted = set()
    for item, own in files.items():
        parts = item.split("/")
        line = [files.get("/".join(parts[:count]), {}) for count in range(1, len(parts) + 1)]
        sources, masks, references = (
            sorted({path for each in line for path in each.get(kind, ())}) for kind in ("source", "mask", "reference")
        )
        middles = [{}, *({"mask": path} for path in masks), *({"reference": path} for path in references)]
        for source, target, middle in itertools.product(sources, own.get("target", ()), middles):
            wanted.add(panel_video.preview_name({"source": source, "target": target, **middle}))
    return found | {path for path in there if path.partition(".")[0] in wanted}


def _rounds(run: RunFolder, stones: Tombstones) -> list[str]:
    """Delete pages of refinement rounds that show a source, and say that what a round has learned stays."""
    folders = [folder for folder in run.store.folders(ROUNDS) if folder.startswith("round-")]
    for path in (path for folder in folders for path in run.store.list(f"{ROUNDS}/{folder}", ".html")):
        page = run.store.read(path)
        if any(source.encode() in page for source in stones.sources):
            run.store.remove(path)
    return [f"{ROUNDS}: weights that a round trained before are not changed"] if folders else []


def _stages(run: RunFolder) -> list[str]:
    return list(dict.fromkeys(stage for stages in run.tracks().values() for stage in stages))


def _rows(relation: duckdb.DuckDBPyRelation) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = pa.table(relation.to_arrow_table()).to_pylist()
    return table
