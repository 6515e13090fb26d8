"""What the pairs of an export show, in numbers: how many things, how large, how much moves, how long it is worded."""

from __future__ import annotations

from typing import Any

import duckdb

COLUMNS = {
    "instruction_words": ("instruction", "len(regexp_split_to_array(trim({}), '\\s+'))"),
    "mask_area": ("mask_area", "{}"),
    "motion": ("motion", "{}"),
}
"""Numbers of a pair: name to the column that it is made of, and how."""
QUANTILES = (0.1, 0.5, 0.9)
MOST_OBJECTS = 10


def contents(chosen: duckdb.DuckDBPyRelation) -> dict[str, dict[str, Any]]:
    """Describe the pairs by task.

    Args:
        chosen: the pairs of the export, a row each; columns that it lacks leave their numbers out.

    Returns:
        By task `sources` and `seconds` of all clips, `objects` (how many names) and `most_objects` (name to pairs, the
        most frequent first), and the 10th, 50th and 90th percentile of `instruction_words`, of `mask_area` (share of
        the picture, 0..1) and of `motion` (grey levels, 0..255, between measured frames).
    """
    known = {name: how.format(column) for name, (column, how) in COLUMNS.items() if column in chosen.columns}
    spreads = [f"quantile_cont({value}, {list(QUANTILES)}) as {name}" for name, value in known.items()]
    plain = ["count(distinct source_id) as sources", "round(sum(frames / fps), 1) as seconds"]
    rows = chosen.aggregate(", ".join(["task", *plain, *spreads])).order("task")
    found: dict[str, dict[str, Any]] = {}
    for task, sources, seconds, *values in rows.fetchall():
        spread = {name: [round(v, 4) for v in row] for name, row in zip(known, values, strict=True) if row}
        found[task] = {"sources": sources, "seconds": seconds, **spread}
    if "object" in chosen.columns:
        named = chosen.filter("object is not null").aggregate("task, object, count(*) as n").order("n desc, object")
        for task, thing, n in named.fetchall():
            most = found[task].setdefault("most_objects", {})
            found[task]["objects"] = found[task].get("objects", 0) + 1
            if len(most) < MOST_OBJECTS:
                most[thing] = n
    return found
