"""The JSON of a pair: everything a trainer needs to know, and nothing that differs between two runs of the same work.

No times, hosts, paths or attempts: the same pair gives the same bytes wherever and however often it was computed.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import duckdb

from ffpdata import __version__
from ffpdata.core.keys import digest
from ffpdata.core.stage import Artifact, ModelSpec
from ffpdata.curate import verdicts as reviewed
from ffpdata.export.extras import COLUMNS, Extras
from ffpdata.export.inherited_licence import FACTS
from ffpdata.export.inverse import inverse_record
from ffpdata.manifests.manifest import decode
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.views import in_items, of_each

RECORD_VERSION = 2
"""2: `licence`, `instructions`, `derived_from`, and the target's caption of every task. Records of 1 stay valid."""

SOURCE, TARGET, MASK = "source.mp4", "target.mp4", "mask.mp4"

MEMBERS = {SOURCE: "source_video", TARGET: "target_video", MASK: "mask_video"}
"""Member of a sample to the artifact column it is copied from. `edited_first_frame.png` and `json` are made here."""

FIRST_FRAME, RECORD = "edited_first_frame.png", "json"

VERDICTS = ("screen", "discriminate", "verify")
SCORED = ("measure", "assess")
"""Stages whose numbers are all scores of the pair."""
"""Stages whose columns are the verdicts of a model on the pair. Those of reviewers stand beside them as `review`."""

TASKS = ("removal", "swap", "modification", "stylization", "addition", "background", "text_removal", "reference_swap")

_TEXT = {"type": "string"}
_SHORT = {"type": "string", "minLength": 1}
_SIZE = {"type": "integer", "minimum": 1}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": [
        *("version", "key", "item_id", "source_id", "track", "task", "split", "instruction", "captions", "scores"),
        *("verdicts", "geometry", "origin", "lineage", "prompts", "software"),
    ],
    "additionalProperties": False,
    "properties": {
        "version": {"type": "integer", "enum": [1, RECORD_VERSION]},
        "key": _SHORT,
        "item_id": _SHORT,
        "source_id": _SHORT,
        "track": _SHORT,
        "task": {"enum": list(TASKS)},
        "variant": _TEXT,
        "back_end": _TEXT,
        "split": _SHORT,
        "instruction": _SHORT,
        "instructions": {"type": "object"},
        "derived_from": {"type": "object", "required": ["key", "item_id", "relation"]},
        "licence": {"type": "object", "required": ["class"]},
        "captions": {"type": "object"},
        "object": _TEXT,
        "objects": {"type": "array", "items": _TEXT},
        "style": {"type": "object"},
        "reference": {"type": "object"},
        "mask": {"type": "object"},
        "propagation": {"type": "object", "required": ["edited_first_frame", "editor", "propagator"]},
        "seed": {"type": "integer"},
        "scores": {"type": "object"},
        "verdicts": {"type": "object"},
        "facts": {"type": "object"},
        "depth": _TEXT,
        COLUMNS: {"type": "object"},
        "geometry": {
            "type": "object",
            "required": ["width", "height", "frames", "fps"],
            "properties": {"width": _SIZE, "height": _SIZE, "frames": _SIZE, "fps": {"type": "number", "minimum": 0}},
        },
        "origin": {"type": "object", "properties": {"licence": _TEXT, "url": _TEXT}},
        "lineage": {"type": "object"},
        "prompts": {"type": "object"},
        "software": {"type": "object", "required": ["ffpdata"]},
    },
}
"""What `ffpdata verify` holds a record against; `docs` of each entry are on the dataset card."""

CAPTIONS = {
    "source": "caption",
    "source_by": "caption_by",
    "target": "target_caption",
    "cinematic": "cinematic_caption",
    "style": "style_caption",
}
REGION = {"phrase": "phrase", "score": "segment_score", "area": "mask_area", "coverage": "mask_coverage"}
STYLE = {"name": "style", "id": "style_id"}
REFERENCE = {"object": "reference_object", "id": "reference_id"}
PROPAGATION = {"edited_first_frame": "edited_first_frame_id", "instruction": "edit_instruction"}
"""Of a target that a propagator made: which picture it began with, and what the picture's editor was told."""
ORIGIN = {
    "licence": "licence",
    "url": "url",
    "start_s": "start_s",
    "width": "source_width",
    "height": "source_height",
    "fps": "source_fps",
    "codec": "codec",
    "meta": "meta",
}


class Records:
    """Makes the records of one run.

    Args:
        run: the run folder.
        connection: with the views of the run.
        extras: what the tracks add.
    """

    def __init__(self, run: RunFolder, connection: duckdb.DuckDBPyConnection, extras: Extras | None = None) -> None:
        self._extras = extras or Extras()
        self._stages = {track: pipeline.build() for track, pipeline in run.pipelines().items()}
        self._taken = of_each(run.tracks())
        self._prompts = _PromptHistory(run, connection, self._stages)
        self._decisions = reviewed.decisions(reviewed.read(connection))

    def models(self) -> list[ModelSpec]:
        """The models of all stages."""
        return [spec for stages in self._stages.values() for stage in stages for spec in stage.specs.values()]

    def record(self, row: Mapping[str, Any], key: str, base: str = "") -> dict[str, Any]:
        """Return the record of one chosen row under its sample key; `base` is that of the removal it reverses."""
        track = str(row["track"])
        values: dict[str, Any] = {}
        scores: dict[str, Any] = {}
        verdicts: dict[str, Any] = {}
        facts: dict[str, Any] = {}
        lineage: dict[str, Any] = {}
        prompts: dict[str, Any] = {}
        for stage in self._stages[track]:
            stage_key = row.get(f"{stage.name}_key")
            if stage_key is None:  # the stage was not for this item
                continue
            columns = decode({n: row.get(in_items(stage.name, n, self._taken)) for n in stage.writes}, stage.writes)
            values |= columns
            plain = {n: v for n, v in columns.items() if not isinstance(stage.writes[n], Artifact)}
            if stage.name in VERDICTS:
                verdicts[stage.name] = plain
            if stage.name in SCORED or "score" in plain:
                scores |= {n: v for n, v in plain.items() if isinstance(v, (int, float))}
            facts |= {n.removesuffix("_facts"): v for n, v in plain.items() if n.endswith("_facts")}
            asked = self._prompts.of(track, stage.name, stage_key)
            prompts |= asked
            lineage[stage.name] = {"key": stage_key} | _given(row, {"model": f"{stage.name}_model"})
            if asked:
                lineage[stage.name]["prompts"] = sorted(asked)
        verdicts |= self._review(row, lineage)
        values = {"target_caption": values.get("style_caption")} | {n: v for n, v in values.items() if v is not None}
        record = {
            "version": RECORD_VERSION,
            "key": key,
            "captions": _given(values, CAPTIONS),
            "style": _given(values, STYLE),
            "reference": _given(values, REFERENCE),
            "mask": _given(values, REGION),
            "propagation": _propagation(values, lineage),
            "scores": scores,
            "verdicts": verdicts,
            "facts": facts,
            COLUMNS: self._extras.values(track, values),
            "geometry": _given(values, {n: n for n in ("width", "height", "frames", "fps")}),
            "origin": _given(values, ORIGIN),
            "lineage": lineage,
            "prompts": prompts,
            "software": {"ffpdata": __version__},
        }
        record |= _given(row, {n: n for n in ("item_id", "source_id", "track", "split")})
        record |= _given(
            values, {n: n for n in ("task", "variant", "back_end", "seed", "instruction", "object", "objects")}
        )
        record |= _given(values, {"depth": "depth_kind", "instructions": "instructions"})
        if row.get(FACTS):
            record["licence"] = json.loads(row[FACTS])
        if base:
            record = inverse_record(record, base)
            record[COLUMNS] = dict.fromkeys(self._extras.values(track, {}))
        return {name: value for name, value in record.items() if value != {} or name in SCHEMA["required"]}

    def _review(self, row: Mapping[str, Any], lineage: Mapping[str, Any]) -> dict[str, Any]:
        """What reviewers decided about the pair, without their names; nothing where they did not."""
        if not self._decisions:
            return {}
        last = list(lineage.values())[-1]["key"]
        decision = self._decisions.get(reviewed.pair_key(str(row["track"]), str(row["item_id"]), last))
        if decision is None:
            return {}
        counts = {"accepts": decision.accepts, "rejects": decision.rejects, "reasons": list(decision.reasons)}
        return {reviewed.REVIEW: {"accepted": decision.accepted} | counts}


def to_json(record: Mapping[str, Any]) -> bytes:
    """Canonical bytes of a record: sorted keys, UTF-8, one spelling per content."""
    return (json.dumps(record, sort_keys=True, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


def _propagation(values: Mapping[str, Any], lineage: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Say of a target that a propagator made from which edited frame, and by which models; nothing of others."""
    made = {"editor": lineage.get("edit_frame"), "propagator": lineage.get("propagate")}
    if not all(made.values()):
        return {}
    models = {name: stage["model"] for name, stage in made.items() if stage and "model" in stage}
    return _given(values, PROPAGATION) | models


def _given(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {name: values[column] for name, column in names.items() if values.get(column) is not None}


class _PromptHistory:
    """Which text a stage asked when it made a row: a run may have been started again with other prompts since."""

    def __init__(self, run: RunFolder, connection: duckdb.DuckDBPyConnection, stages: Mapping[str, list[Any]]) -> None:
        self._texts: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._starts: dict[str, list[float]] = {}
        self._made: dict[str, float] = {}
        for track, made in stages.items():
            starts = run.starts_of(track)
            self._starts[track] = [datetime.fromisoformat(s["started_at"]).timestamp() for s in starts]
            for stage in made:
                texts = [_asked(start["pipeline"]["prompts"], stage.prompts) for start in starts]
                self._texts[track, stage.name] = texts
                if any(text != texts[-1] for text in texts):
                    rows = connection.view(stage.name).project("key, epoch(started_at)").fetchall()
                    self._made |= dict(rows)

    def of(self, track: str, stage: str, key: str) -> dict[str, Any]:
        """The prompts behind a stage's row: name to digest and text."""
        texts = self._texts[track, stage]
        made = self._made.get(key)
        if made is None:
            return texts[-1]
        return texts[max(0, bisect_right(self._starts[track], made) - 1)]


def _asked(prompts: Mapping[str, Mapping[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: {"digest": digest(prompts[name]), "text": prompts[name]["text"]} for name in names if name in prompts}
