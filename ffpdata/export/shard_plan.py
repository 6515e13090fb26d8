"""Which pair goes into which shard: the same pairs give the same plan, whatever happened on the way."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from ffpdata.core.errors import DamagedError
from ffpdata.core.keys import digest
from ffpdata.export import inverse
from ffpdata.export.extras import INVERSE, Extras
from ffpdata.export.inherited_licence import CLASS, with_licences
from ffpdata.export.pair_record import MEMBERS
from ffpdata.manifests.sql_text import literal, quote
from ffpdata.manifests.tombstones import Tombstones
from ffpdata.manifests.views import CURATE, IS_PAIR, PAIR
from ffpdata.storage.digests import size_of, wrong_size
from ffpdata.storage.store import Store

MAX_KEY = 64
"""Characters of a sample key, so that every member name fits into the 100 bytes of a plain tar header."""

PNG_BYTES_PER_PIXEL = 1.25
"""Expected size of a first frame, measured on 720p clips. Only the plan uses it."""

OVERHEAD = 16_384
"""Expected bytes of a sample's record and tar headers."""


_UNTOLD = ("seconds", "cpu_seconds", "attempt")
"""Columns of each stage that no record tells, as the hashes: they need not be held in memory."""


@dataclass(frozen=True)
class PlannedPair:
    """One pair in the plan.

    Attributes:
        place: position among all pairs in export order; -1 for one that was taken down.
        key: sample key, unique in the dataset.
        files: member name to the path of its artifact and its size in bytes.
        weight: expected bytes in the shard.
        sha256: member name to the hash of its artifact as it was written, where that is known.
        order: what the export order sorts by.
        base: key of the removal that an inverse pair reverses; empty of other pairs.
    """

    place: int
    key: str
    split: str
    files: Mapping[str, tuple[str, int]]
    weight: int
    sha256: Mapping[str, str] = field(default_factory=dict)
    order: tuple[str, ...] = ()
    base: str = ""


@dataclass(frozen=True)
class ShardPlan:
    """One shard to be: where it goes and what goes in."""

    path: str
    split: str
    entries: Sequence[PlannedPair]


def choose(
    connection: duckdb.DuckDBPyConnection,
    tracks: Mapping[str, Sequence[str]],
    extras: Extras | None = None,
    *,
    without: Tombstones | None = None,
    only: Tombstones | None = None,
) -> int:
    """Freeze the accepted pairs in export order into the table `chosen` and count them.

    The order is that of a hash, so that every shard is a fair mixture of sources and tasks. A pair that is not
    curated counts as not accepted. Pairs `without` what was taken down are chosen, or `only` those that show it.
    """
    if not {"split", *PAIR} <= set(connection.view("items").columns):  # never curated, or nothing here makes pairs
        return 0
    accepted = connection.view("items").filter(f"status = 'ok' and stage = '{CURATE}' and {IS_PAIR}")
    stages = {CURATE, *(stage for names in tracks.values() for stage in names)}
    untold = {"source_hash", "target_hash", *(f"{stage}_{name}" for stage in stages for name in _UNTOLD)}
    untold -= extras.given if extras else set()
    ordered = accepted.project(", ".join(quote(name) for name in accepted.columns if name not in untold))
    if without:
        ordered = ordered.filter(f"not {without.condition(ordered.columns)}")
    if only is not None:
        ordered = ordered.filter(only.condition(ordered.columns))
    ordered.create_view("_told")
    # A table from here on: every further step would bind the wide view of all stages anew.
    connection.execute("create temp table _accepted as select * from _told")
    ordered, base = connection.table("_accepted"), "item_id"
    if extras and extras.stages:
        ordered = with_licences(connection, ordered, extras.stages)
        for track, classes in extras.licences.items():
            taken = ", ".join(literal(name) for name in classes)
            ordered = ordered.filter(f"track <> {literal(track)} or {CLASS} in ({taken})")
        if extras.inverse:
            ordered, base = _with_inverse(connection, ordered, extras.inverse), f"coalesce({INVERSE}, item_id)"
    place = f"row_number() over (order by split, md5(track || '|' || {base}), track, item_id) - 1 as place"
    ordered.project(f"*, {place}").create_view("_ordered")
    connection.execute("create temp table chosen as select * from _ordered")
    return int(connection.execute("select count(*) from chosen").fetchall()[0][0])


def _with_inverse(
    connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation, tracks: Sequence[str]
) -> duckdb.DuckDBPyRelation:
    """Add the inverse pairs of the tracks' removals, as far as an instruction can be worded."""
    columns = relation.columns
    mine = relation.filter(f"track in ({', '.join(map(literal, tracks))}) and task = {literal(inverse.OF)}")
    if not {"instruction", *inverse.SWAPPED} <= set(columns):
        return relation.project(f"*, null::varchar as {INVERSE}")
    told = [name for name in ("track", "item_id", "instruction", "object", inverse.INSTRUCTION) if name in columns]
    found = [
        {"track": row["track"], "item_id": row["item_id"], "text": text}
        for row in pa.table(mine.project(", ".join(told)).to_arrow_table()).to_pylist()
        if (
            text := row.get(inverse.INSTRUCTION)
            or inverse.addition_of(row["instruction"] or "", row.get("object") or "")
        )
    ]
    kinds = pa.schema([(name, pa.string()) for name in ("inverse_track", INVERSE, "inverse_text")])
    names = dict(zip(kinds.names, ("track", "item_id", "text"), strict=True))
    table = pa.table({new: pa.array([row[old] for row in found], pa.string()) for new, old in names.items()}, kinds)
    said = {"task": literal(inverse.TASK), "item_id": f"item_id || {literal(inverse.SUFFIX)}"}
    said |= {"instruction": "inverse_text"} | inverse.SWAPPED | dict.fromkeys(inverse.UNSAID, "null")
    turned = ", ".join(f"{said.get(name, quote(name))} as {quote(name)}" for name in columns)
    joined = mine.join(connection.from_arrow(table), f"track = inverse_track and item_id = {INVERSE}")
    return relation.project(f"*, null::varchar as {INVERSE}").union(joined.project(f"{turned}, {INVERSE}"))


def rows(connection: duckdb.DuckDBPyConnection, first: int, last: int) -> list[dict[str, Any]]:
    """The chosen rows from place `first` to `last`, both inclusive."""
    found = connection.table("chosen").filter(f"place between {first:d} and {last:d}").order("place")
    table: list[dict[str, Any]] = pa.table(found.to_arrow_table()).to_pylist()
    return table


def plan_shards(
    connection: duckdb.DuckDBPyConnection,
    store: Store,
    limit: int,
    extras: Extras,
    tracks: Mapping[str, Sequence[str]],
    *,
    gone: Sequence[Mapping[str, Any]] = (),
) -> list[ShardPlan]:
    """Cut the chosen pairs into shards of at most about `limit` bytes, in order.

    Args:
        connection: with the table `chosen`.
        store: the run folder.
        limit: bytes.
        extras: what the tracks add.
        tracks: per track the names of its stages.
        gone: pairs that were taken down, as `places_of` tells of them. Each still takes its place, so that no other
            pair moves into another shard.

    Raises:
        DamagedError: files that a manifest names are not there, or have another size than was recorded.
    """
    gone = [pair for pair in gone if pair["track"] in extras.inverse or not inverse.is_inverse(str(pair["item_id"]))]
    entries = _entries(connection, store, extras, tracks, also=[str(pair["item_id"]) for pair in gone])
    left = [
        PlannedPair(-1, "", p["split"], {}, p["weight"], order=_order(p["split"], p["track"], p["item_id"]))
        for p in gone
    ]
    return list(_cut(sorted([*entries, *left], key=lambda entry: entry.order), limit))


def places_of(
    connection: duckdb.DuckDBPyConnection, store: Store, extras: Extras, tracks: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """What keeps the places of the chosen pairs in their shards when they are gone: `track, item_id, split, weight`."""
    return [
        {"track": entry.order[-2], "item_id": entry.order[-1], "split": entry.split, "weight": entry.weight}
        for entry in _entries(connection, store, extras, tracks, lost_too=True)
    ]


def damaged_artifact(store: Store, path: str, why: str, others: int = 0) -> DamagedError:
    """The error about an artifact that cannot be exported; `others` are in the same state."""
    more = f" (and {others} other files are gone or damaged)" if others else ""
    run = shlex.quote(store.root)
    return DamagedError(
        f"{store.root}/{path} {why}{more}, but a manifest names it: put it back from a copy, or have it made again: "
        f"`ffpdata retry {run} --lost`; `ffpdata verify {run}` lists all such files"
    )


def sample_key(item_id: str) -> str:
    """Sample key of an item: no dot, which ends a key in WebDataset, no folder, and ASCII."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", item_id.replace("/", "-"))


def expected_bytes(files: int, width: int, height: int) -> int:
    """Bytes that a pair is expected to take in a shard; `files` is the size of those that are copied."""
    return files + int(PNG_BYTES_PER_PIXEL * width * height) + OVERHEAD


def _order(split: str, track: str, item_id: str) -> tuple[str, ...]:
    """What the export order sorts by, as `choose` does in SQL: an inverse pair follows its removal."""
    name = f"{track}|{inverse.reversed_item(item_id)}"
    return split, hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), track, item_id


def _entries(
    connection: duckdb.DuckDBPyConnection,
    store: Store,
    extras: Extras,
    tracks: Mapping[str, Sequence[str]],
    *,
    also: Sequence[str] = (),
    lost_too: bool = False,
) -> list[PlannedPair]:
    """The chosen pairs in order; `also` are names of others that have a sample key, too."""
    view = connection.table("chosen")
    facts = {track: [f"{stage}_artifacts" for stage in stages] for track, stages in tracks.items()}
    recorded = sorted({name for names in facts.values() for name in names})
    wanted = dict.fromkeys(["width", "height", INVERSE, *MEMBERS.values(), *sorted(extras.given), *recorded])
    columns = [quote(c) for c in wanted if c in view.columns]
    found = view.project(", ".join(["place", "track", "item_id", "split", *columns])).order("place")
    pairs = pa.table(found.to_arrow_table()).to_pylist()
    paths = [{m: p[c] for m, c in MEMBERS.items() if p.get(c)} | extras.files(p) for p in pairs]
    known = [_recorded(pair, facts[pair["track"]], extras) for pair in pairs]
    with ThreadPoolExecutor(16) as pool:  # waiting for an object store, mostly
        found_sizes = list(pool.map(lambda files: {m: size_of(store, path) for m, path in files.items()}, paths))
    lost = {
        path: why
        for files, size, facts_of in zip(paths, found_sizes, known, strict=True)
        for member, path in files.items()
        if (why := wrong_size(size[member], facts_of.get(member)))
    }
    if lost and not lost_too:
        path, why = min(lost.items())
        raise damaged_artifact(store, path, why, len(lost) - 1)
    sizes = [{member: size or 0 for member, size in each.items()} for each in found_sizes]
    entries = []
    keys = list(_keys(pairs, also))
    key_of = {(pair["track"], pair["item_id"]): key for pair, key in zip(pairs, keys, strict=True)}
    for pair, key, files, size, facts_of in zip(pairs, keys, paths, sizes, known, strict=True):
        members = {member: (path, size[member]) for member, path in files.items()}
        weight = expected_bytes(sum(size.values()), pair.get("width") or 0, pair.get("height") or 0)
        hashes = {member: facts_of[member]["sha256"] for member in files if member in facts_of}
        order = _order(pair["split"], pair["track"], pair["item_id"])
        base = key_of[pair["track"], pair[INVERSE]] if pair.get(INVERSE) else ""
        entries.append(PlannedPair(pair["place"], key, pair["split"], members, weight, hashes, order, base))
    return entries


def _recorded(pair: Mapping[str, Any], names: Sequence[str], extras: Extras) -> dict[str, dict[str, Any]]:
    """What was recorded of the pair's files, by member; a later stage's file replaces that of an earlier one."""
    columns: dict[str, dict[str, Any]] = {}
    for name in names:
        columns |= json.loads(pair.get(name) or "{}")
    members = MEMBERS | extras.file_columns(str(pair["track"]))
    if pair.get(INVERSE):
        members = {member: inverse.SWAPPED.get(column, column) for member, column in MEMBERS.items()}
    return {member: columns[column] for member, column in members.items() if column in columns}


def _keys(pairs: Sequence[Mapping[str, Any]], also: Sequence[str]) -> Iterator[str]:
    """Sample keys; where two items would share one, or one is too long, a hash of the item's id is added."""
    plain = [sample_key(pair["item_id"]) for pair in pairs]
    times = Counter([*plain, *map(sample_key, also)])
    for pair, key in zip(pairs, plain, strict=True):
        if times[key] == 1 and len(key) <= MAX_KEY:
            yield key
        else:
            yield f"{key[: MAX_KEY - 13]}-{digest(pair['track'], pair['item_id'])[:12]}"


def _cut(entries: Sequence[PlannedPair], limit: int) -> Iterator[ShardPlan]:
    count: Counter[str] = Counter()
    taken: list[PlannedPair] = []
    size = 0

    def shard() -> Iterator[ShardPlan]:
        split = taken[0].split
        count[split] += 1
        if there := tuple(entry for entry in taken if entry.place >= 0):  # else all of it was taken down
            yield ShardPlan(f"{split}/shard-{count[split] - 1:06d}.tar", split, there)

    for entry in entries:
        together = inverse.is_inverse(entry.order[-1])  # an inverse pair lies with its removal
        if taken and (entry.split != taken[0].split or (size + entry.weight > limit and not together)):
            yield from shard()
            taken, size = [], 0
        taken.append(entry)
        size += entry.weight
    if taken:
        yield from shard()
