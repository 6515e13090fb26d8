"""The Parquet index beside a shard: what is in the tar and where."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ffpdata.export.dataset import Shard
from ffpdata.export.extras import Extras
from ffpdata.storage.store import Store

MEMBER = pa.struct([("name", pa.string()), ("offset", pa.int64()), ("bytes", pa.int64()), ("sha256", pa.string())])
"""A file of a sample; `offset` is where its bytes begin in the tar."""

INDEX = pa.schema(
    [
        ("key", pa.string()),
        ("item_id", pa.string()),
        ("source_id", pa.string()),
        ("source_group", pa.string()),
        ("track", pa.string()),
        ("task", pa.string()),
        ("split", pa.string()),
        ("object", pa.string()),
        ("instruction", pa.string()),
        ("licence", pa.string()),
        ("score", pa.float64()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("frames", pa.int64()),
        ("fps", pa.float64()),
        ("bytes", pa.int64()),
        ("members", pa.list_(MEMBER)),
        ("variant", pa.string()),
        ("caption", pa.string()),
        ("target_caption", pa.string()),
        ("motion", pa.float64()),
        ("mask_area", pa.float64()),
        ("scores", pa.map_(pa.string(), pa.float64())),
        ("licence_class", pa.string()),
        ("derived_from", pa.string()),
    ]
)
"""Columns of the index: one row per sample. `source_group` names the sources that look alike; `bytes` counts all
members. Plain columns that a pipeline adds by its `export` section stand behind them."""

ADDED = ("variant", "caption", "target_caption", "motion", "mask_area", "scores", "licence_class", "derived_from")
"""Those that an index of an earlier release may lack; they are then null."""

_METADATA = b"ffpdata"


def index_row(
    record: Mapping[str, Any], source_group: str, members: Sequence[Mapping[str, Any]], extras: Extras
) -> dict[str, Any]:
    """Row of one sample."""
    row = {name: record.get(name) for name in INDEX.names} | dict(record["geometry"])
    own = {
        "source_group": source_group,
        "licence": record["origin"].get("licence"),
        "score": record["scores"].get("score"),
        "bytes": sum(m["bytes"] for m in members),
        "members": list(members),
        "caption": record["captions"].get("source"),
        "target_caption": record["captions"].get("target"),
        "motion": record["scores"].get("motion"),
        "mask_area": record.get("mask", {}).get("area"),
        "scores": sorted(record["scores"].items()),
        "licence_class": record.get("licence", {}).get("class"),
        "derived_from": record.get("derived_from", {}).get("key"),
    }
    return row | own | extras.index_columns(record)


def write_index(store: Store, shard: Shard, rows: Sequence[Mapping[str, Any]], extra: Sequence[pa.Field] = ()) -> Shard:
    """Write a shard's index, with size and plan of the tar in its metadata; returns the shard with the index's hash.

    One that is there and is the same is left. `extra` are the columns that it has beside those of `INDEX`.
    """
    facts = {name: value for name, value in vars(shard).items() if name != "index_sha256"}
    schema = pa.schema([*INDEX, *extra], {_METADATA: json.dumps(facts, sort_keys=True).encode()})
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), sink, compression="zstd")
    store.write_if_changed(shard.twin, sink.getvalue())
    return replace(shard, index_sha256=hashlib.sha256(sink.getvalue()).hexdigest())


def read_index(store: Store, twin: str) -> tuple[Shard, pa.Table]:
    """Read an index: the shard that it belongs to, and one row per sample.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: it is damaged, or no index of ours.
    """
    if store.local:
        store.own_file(twin)
    data = store.read(twin)
    try:
        table = pq.read_table(io.BytesIO(data))
        for name in ADDED:
            if name not in table.column_names:
                table = table.append_column(name, pa.nulls(len(table), INDEX.field(name).type))
        extra = [field for field in table.schema if field.name not in INDEX.names]
        facts = json.loads((table.schema.metadata or {})[_METADATA])
        shard = Shard(**facts, index_sha256=hashlib.sha256(data).hexdigest()).checked()
        ordered = table.select([*INDEX.names, *(field.name for field in extra)])
        return shard, ordered.cast(pa.schema([*INDEX, *extra]))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, IndexError, RecursionError) as err:
        raise ValueError(f"not a readable index: {err}") from err
