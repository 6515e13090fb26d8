"""Takes sources out of an export: the shards that hold them are written anew without them, all others are left.

Killed at any place, the same call goes on: the log has what the counts of the card lose, a shard is written anew as
long as its index or its tar names what is gone, and `dataset.json` says last that the export is complete again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from ffpdata.core.errors import FatalError
from ffpdata.core.keys import digest
from ffpdata.core.licences import CLASSES
from ffpdata.export import card
from ffpdata.export.dataset import CARD, Dataset, Shard, only_writer, remove_stale
from ffpdata.export.extras import COLUMNS
from ffpdata.export.pair_record import FIRST_FRAME, RECORD
from ffpdata.export.reproducible_tar import DamagedTarError, Member, read_tar, write_tar
from ffpdata.export.shard_index import INDEX, read_index, write_index
from ffpdata.export.shard_plan import expected_bytes
from ffpdata.manifests.tombstones import Tombstone, Tombstones
from ffpdata.storage.store import Store, storage_errors
from ffpdata.takedown.request import Takedown, now, resolve

Row = dict[str, Any]

APPLIED = "taken_down"
"""Entry of `dataset.json`: how many sources were taken down, all of which its counts leave out."""


@dataclass(frozen=True)
class _Indexed:
    """A shard as its index tells of it."""

    shard: Shard
    rows: list[Row]
    extra: list[pa.Field]


def take_down(out: str | Path, asked: Sequence[str], reason: str = "") -> Takedown:
    """Take sources out of an export. The same call again completes what was interrupted.

    Args:
        out: folder or URL of a complete export, or of one whose takedown was interrupted.
        asked: source ids, items or sample keys.
        reason: for the log.

    Raises:
        UsageError: the export has no such source.
        FatalError: it is no export, an incomplete or a damaged one.
    """
    store = Store(out)
    dataset = Dataset.load(store)
    with only_writer(store):
        stones = Tombstones.load(store)
        if not dataset.complete and not stones.pending:
            raise FatalError(f"{store.root} is an export that was interrupted: run `ffpdata export` again first")
        indexed = [_read(store, shard) for shard in dataset.shards]
        sources = resolve(asked, lambda: _known(indexed), store.root)
        new = {source: name for source, name in sources.items() if source not in stones.sources}
        if new:
            stones = stones + [_stone(store, indexed, source, name, reason) for source, name in new.items()]
            stones.save(store)
        pending = stones.pending
        done = Takedown(sorted(new), sorted(set(sources) - set(new)), pairs=len(Tombstones(pending).pairs))
        gone = {str(pair["item_id"]) for pair in stones.pairs}
        if pending or any(row["item_id"] in gone for each in indexed for row in each.rows):
            replace(dataset, complete=False).save(store)
            kept = [left for each in indexed if (left := _without(store, each, gone, done)).rows]
            shards = [each.shard for each in kept]
            replace(dataset, complete=False, shards=shards).save(store)  # so that none is missed that is deleted now
            counted = dataset.about.get(APPLIED, 0)
            uncounted = [stone for number, stone in enumerate(stones) if not stone.done and number >= counted]
            about = _about(dataset.about, kept, Tombstones(uncounted).pairs) | {APPLIED: len(stones)}
            store.write(CARD, card.write(about).encode())
            remove_stale(store, shards)
            Dataset(True, shards, about).save(store)
            store.clean_temp()
        stones.finished().save(store)
    return done


def _read(store: Store, shard: Shard) -> _Indexed:
    try:
        found, table = read_index(store, shard.twin)
    except (FileNotFoundError, ValueError) as err:
        why = "gone" if isinstance(err, FileNotFoundError) else f"damaged ({err})"
        raise FatalError(f"{store.root}/{shard.twin} is {why}: `ffpdata export` writes it anew from the run") from err
    extra = [table.schema.field(place) for place in range(len(INDEX), table.num_columns)]
    return _Indexed(found, table.to_pylist(), extra)


def _known(indexed: Sequence[_Indexed]) -> Iterator[tuple[str, str]]:
    for each in indexed:
        for row in each.rows:
            yield from ((str(name), row["source_id"]) for name in (row["item_id"], row["key"]))
            parts = str(row["item_id"]).split("/")
            yield from (("/".join(parts[:count]), row["source_id"]) for count in range(1, len(parts)))


def _stone(store: Store, indexed: Sequence[_Indexed], source: str, asked: str, reason: str) -> Tombstone:
    """The tombstone of a source or a style image, with the place of its pairs and what the card counts of them."""
    stone = Tombstone(source, asked, reason, now())
    groups = {row["source_id"]: row["source_group"] for each in indexed for row in each.rows}
    mine = groups.get(source)
    stone.groups.update({other: name for other, name in groups.items() if name == mine and other != source and mine})
    for each in indexed:
        for row in each.rows:
            styled = row["task"] == "stylization"
            if row["source_id"] != source and not styled:
                continue
            record = _record(store, each.shard, row)
            if source not in (row["source_id"], (record.get("style") or {}).get("id")):
                continue
            copied = sum(m["bytes"] for m in row["members"] if m["name"] not in (RECORD, FIRST_FRAME))
            values = record.get(COLUMNS, {})
            extras = [*(m["name"] for m in row["members"]), *(name for name in values if values[name] is not None)]
            pair = {name: row[name] for name in ("track", "item_id", "split")}
            pair["weight"] = expected_bytes(copied, row["width"] or 0, row["height"] or 0)
            pair |= {"captions_by": record["captions"].get("source_by"), "depth": record.get("depth")}
            stone.pairs.append(pair | {"extras": extras})
    return stone


def _record(store: Store, shard: Shard, row: Mapping[str, Any]) -> dict[str, Any]:
    """The record of one sample, read at the place that the index tells."""
    [member] = [m for m in row["members"] if m["name"] == RECORD]
    with store.open(shard.path) as stream:
        stream.seek(member["offset"])
        data = stream.read(member["bytes"])
    try:
        return dict(json.loads(data))
    except (ValueError, TypeError, RecursionError) as err:
        raise FatalError(
            f"{store.root}/{shard.path} is damaged at {row['key']} ({err}): `ffpdata verify` says more"
        ) from err


def _without(store: Store, each: _Indexed, gone: set[str], done: Takedown) -> _Indexed:
    """The shard without the pairs that are gone, written anew where its index still has one of them."""
    left = [row for row in each.rows if row["item_id"] not in gone]
    if len(left) == len(each.rows):
        return each
    done.files += 1
    taken = sorted(row["key"] for row in each.rows if row["item_id"] in gone)
    if not left:
        return replace(each, rows=[])
    temp = store.temp_file(PurePosixPath(each.shard.path).name)
    try:
        with storage_errors(str(temp.parent)), store.open(each.shard.path) as stream:
            written = write_tar(temp, _samples(stream, set(taken), f"{store.root}/{each.shard.path}"))
        store.commit(temp, each.shard.path)
    finally:
        temp.unlink(missing_ok=True)
    rows = [
        {**row, "members": members, "bytes": sum(m["bytes"] for m in members)}
        for row, members in zip(left, written.samples, strict=True)
    ]
    # A later export sees by the plan that this is not what it would write from a run that still has the source.
    plan = digest("taken down", each.shard.plan, taken)
    shard = replace(each.shard, pairs=len(rows), bytes=written.bytes, plan=plan)
    return _Indexed(write_index(store, shard, rows, each.extra), rows, each.extra)


def _samples(stream: Any, without: set[str], where: str) -> Iterator[tuple[str, list[Member]]]:
    """The samples of a tar, one at a time, but for some."""
    key, members = "", list[Member]()
    try:
        for name, _, data in read_tar(stream):
            stem, _, kind = name.partition(".")
            if stem != key and members:
                yield key, members
                members = []
            key = stem
            if key not in without:
                members.append(Member(kind, data))
    except DamagedTarError as err:
        raise FatalError(f"{where} is damaged ({err}): `ffpdata export` writes it anew from the run") from err
    if members:
        yield key, members


def _about(about: Mapping[str, Any], indexed: Sequence[_Indexed], gone: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What `dataset.json` tells, counted again in the indexes; what only records tell loses what is `gone`."""
    rows = [row for each in indexed for row in each.rows]
    shards = [each.shard for each in indexed]
    splits = {}
    for split in dict.fromkeys(shard.split for shard in shards):
        mine = [row for row in rows if row["split"] == split]
        tasks = Counter(row["task"] for row in mine)
        sources = len({row["source_id"] for row in mine})
        splits[split] = {"pairs": len(mine), "sources": sources, "tasks": dict(sorted(tasks.items()))}
    names = ("width", "height", "frames", "fps")
    sizes = Counter(tuple(row[name] for name in names) for row in rows)
    largest = sorted(sizes.items(), key=lambda entry: (-entry[1], entry[0][:2]))
    counted = {
        "pairs": len(rows),
        "bytes": sum(shard.bytes for shard in shards),
        "splits": splits,
        "tasks": dict(sorted(Counter(row["task"] for row in rows).items())),
        "geometry": [dict(zip(names, size, strict=True)) | {"pairs": n} for size, n in largest],
        "licences": dict(sorted(Counter(row["licence"] or "unknown" for row in rows).items())),
    }
    if "licence_classes" in about:
        classes = Counter(row["licence_class"] for row in rows)
        counted["licence_classes"] = {name: classes[name] for name in CLASSES if classes[name]}
    for name, key in (("captions_by", "captions_by"), ("depth", "depth")):
        counted[name] = _less(about.get(name, {}), Counter(pair[key] for pair in gone if pair.get(key)))
    if "extras" in about:
        lost = Counter((pair["track"], name) for pair in gone for name in pair.get("extras", ()))
        counted["extras"] = {
            kind: [entry | {"pairs": entry["pairs"] - lost[entry["track"], entry["name"]]} for entry in entries]
            for kind, entries in about["extras"].items()
        }
    return {**about, **counted}


def _less(counts: Mapping[str, int], lost: Mapping[str, int]) -> dict[str, int]:
    return {name: n - lost.get(name, 0) for name, n in counts.items() if n > lost.get(name, 0)}
