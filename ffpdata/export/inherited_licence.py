"""The licence that a pair inherits: the strictest of those of its source, its reference and the models that made it.

Stages that only judge a pair leave nothing in it, and their models' licences do not count. A model's LoRAs go by the
licence that the profile gives the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from ffpdata.core.licences import licence_class, strictest
from ffpdata.core.networks import network_names
from ffpdata.core.stage import Artifact
from ffpdata.manifests.sql_text import literal, quote
from ffpdata.models.packaged.catalogue import packaged

if TYPE_CHECKING:
    import duckdb

    from ffpdata.core.stage import Stage

CLASS, FACTS = "licence_class", "licence_facts"
"""Columns of the chosen rows: the class, and what it follows from, as JSON."""
REFERENCE_LICENCE = ("style_licence", "reference_licence")
"""Columns of the input table, kept in `meta`, that tell the licence of a row's style or reference images."""
TEXTS = frozenset(
    {"caption", "target_caption", "cinematic_caption", "style_caption", "style", "instruction", "instructions"}
    | {"object", "phrase", "source_caption", "addition_instruction"}
)
"""Columns that end in a pair's record as its words; they count like its files."""


def makes(stage: Stage) -> bool:
    """Whether a stage makes something of what is in a pair: a file, or words."""
    return any(isinstance(kind, Artifact) or name in TEXTS for name, kind in stage.writes.items())


def with_licences(
    connection: duckdb.DuckDBPyConnection, relation: duckdb.DuckDBPyRelation, stages: Mapping[str, Sequence[Stage]]
) -> duckdb.DuckDBPyRelation:
    """Return rows of `items` with the columns `CLASS` and `FACTS`.

    Args:
        connection: that the rows are from.
        relation: the rows.
        stages: per track its stages, which know the licences of their models.
    """
    columns = relation.columns
    labels = {
        track: [f"{s.name}_model" for s in made if makes(s) and f"{s.name}_model" in columns]
        for track, made in stages.items()
    }
    told = " || ' ' || ".join(f"coalesce(meta ->> {literal('$.' + name)}, '')" for name in REFERENCE_LICENCE)
    asked = {"track": "track", "licence": "licence", "meta": f"trim({told})"}
    asked["reference_image"] = "reference_image is not null"
    asked |= {name: quote(name) for name in sorted({name for found in labels.values() for name in found})}
    asked = {name: text for name, text in asked.items() if name in columns}
    keys = {name: f"_licence_{place}" for place, name in enumerate(asked)}
    keyed = relation.project("*, " + ", ".join(f"{text} as {keys[name]}" for name, text in asked.items()))
    distinct = pa.table(keyed.project(", ".join(keys.values())).distinct().to_arrow_table())
    rows = [dict(zip(asked, row.values(), strict=True)) for row in distinct.to_pylist()]
    found = [_inherited(row, labels, stages) for row in rows]
    table = distinct.rename_columns([f"{key}_of" for key in keys.values()])
    table = table.append_column(CLASS, pa.array([one["class"] for one in found], pa.string()))
    table = table.append_column(FACTS, pa.array([json.dumps(one, sort_keys=True) for one in found], pa.string()))
    same = " and ".join(f"{key} is not distinct from {key}_of" for key in keys.values())
    joined = keyed.join(connection.from_arrow(table), same, how="left")
    left_out = ", ".join(name for key in keys.values() for name in (key, f"{key}_of"))
    return joined.project(f"* exclude ({left_out})")


def _inherited(
    row: Mapping[str, Any], labels: Mapping[str, Sequence[str]], stages: Mapping[str, Sequence[Stage]]
) -> dict[str, Any]:
    facts: dict[str, Any] = {"source": row.get("licence") or "unknown"}
    if row.get("reference_image"):
        facts["reference"] = row.get("meta") or "unknown"
    models: dict[str, str] = {}
    by_name = {stage.name: stage for stage in stages[row["track"]]}
    for column in labels[row["track"]]:
        for label in (row[column] or "").split(", ") if row[column] else ():
            models |= _licences_of(by_name[column.removesuffix("_model")], label)
    found = [licence_class(text) for text in (facts["source"], *([facts["reference"]] if "reference" in facts else []))]
    found += [licence_class(text) for text in models.values()]
    return {"class": strictest(found), **facts, "models": models}


def _licences_of(stage: Stage, label: str) -> dict[str, str]:
    """Licences of the model that a label names, and of the packaged networks over it, by name."""
    parts = label.split("+")
    specs = [spec for _, spec in sorted(stage.specs.items(), key=lambda entry: entry[1].label != label)]
    spec = next((spec for spec in specs if spec.named_by(label)), None)
    if spec is None:
        return {parts[0]: "unknown"}
    found = {parts[0]: spec.licence or "unknown"}
    named = {part.partition("@")[0]: part for part in parts[1:]}
    found |= {named[n]: packaged(n).licence for n in network_names(spec.load_class(), spec) if n in named}
    return found
