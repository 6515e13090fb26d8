"""The removals of a run under one model: a row per item, stored so that rounds are compared on the same items."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ffpdata.core.errors import FatalError
from ffpdata.curate import verdicts
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.sql_text import literal, quote
from ffpdata.manifests.views import CURATE
from ffpdata.stages.measure import METRICS
from ffpdata.stages.synthesize import Synthesize, edit_arguments

if TYPE_CHECKING:
    from ffpdata.core.config import Pipeline
    from ffpdata.curate.verdicts import Decision

OK = "ok"
TASK = "removal"
FILES = ("source_video", "condition_mask", "mask_video", "target_video")
"""Columns with a removal's files."""


@dataclass(frozen=True)
class RemovalResult:
    """One removal under one model.

    Attributes:
        item_id: the edit.
        source_id: the source of its clip; edits of one source are not independent.
        pair: key of the pair as this model made it (`curate.verdicts.pair_key`), by which verdicts are found.
        status: `ok` where it passed all stages, else `rejected` or `failed`.
        stage: the last stage that it reached.
        reason: why it was rejected or failed; None where it passed.
        screen_score: 0..10; None where it was rejected before the screening.
        measures: values of the stage `measure` by name; those that were not measured are left out.
        seconds: duration of the synthesis.
        files: column to path in the run, for the columns of `FILES`; a target that was never made is left out.
        decision: what the reviewers decided about this pair; None where nobody judged it.
        group: name of the group of sources that look alike, from curation; before it, the source itself.
        prompt: the model's prompt.
        negative: its negative prompt.
        seed: seed of its noise.
    """

    item_id: str
    source_id: str
    pair: str
    status: str
    stage: str
    reason: str | None = None
    screen_score: float | None = None
    measures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    files: dict[str, str] = field(default_factory=dict)
    decision: Decision | None = None
    group: str = ""
    prompt: str = ""
    negative: str = ""
    seed: int = 0

    @property
    def accepted(self) -> bool:
        """Whether reviewers accepted it."""
        return self.decision is not None and self.decision.accepted


RemovalResults = Sequence[RemovalResult]


def read_results(run: RunFolder, pipeline: Pipeline) -> list[RemovalResult]:
    """Read the current removals of a run that reached the synthesis, ordered by item id.

    Args:
        run: the run.
        pipeline: of the track that makes removals.

    Raises:
        FatalError: some removals are not finished.
    """
    stages = [entry.name for entry in pipeline.stages]
    settings = next(stage.settings for stage in pipeline.build() if isinstance(stage, Synthesize))
    with run.reading() as connection:
        items = connection.view("items")
        texts = ("caption", "target_caption", "object", "task", "seed", "screen_score", "source_group")
        names = [name for name in (*texts, *METRICS, *FILES) if name in items.columns]
        columns = ["item_id", "source_id", "status", "stage", "reason", *map(quote, names)]
        columns += [f"synthesize_seconds as seconds, {verdicts.last_key(stages)} as upstream"]
        removals = items.filter(f"track = {literal(pipeline.track)} and task = {literal(TASK)}")
        [(pending,)] = removals.filter("status = 'pending'").aggregate("count(*)").fetchall()
        if pending:
            raise FatalError(
                f"{pending} removals of {run.store.root} are not finished: finish the run first, with "
                "`ffpdata run` as before or `ffpdata retry`"
            )
        reached = removals.filter("synthesize_key is not null").project(", ".join(columns)).order("item_id")
        rows = pa.table(reached.to_arrow_table()).to_pylist()
    return [_result(row, pipeline.track, settings) for row in rows]


def _result(row: dict[str, Any], track: str, settings: Any) -> RemovalResult:
    passed = row["status"] == OK or row["stage"] == CURATE  # curation chooses among pairs that passed
    return RemovalResult(
        item_id=row["item_id"],
        source_id=row["source_id"],
        pair=verdicts.pair_key(track, row["item_id"], row["upstream"]),
        status=OK if passed else row["status"],
        stage=row["stage"],
        reason=None if passed else row["reason"],
        screen_score=row.get("screen_score"),
        measures={name: row[name] for name in METRICS if row.get(name) is not None},
        seconds=row["seconds"] or 0.0,
        files={name: row[name] for name in FILES if row.get(name)},
        group=row.get("source_group") or row["source_id"],
        **edit_arguments(row, settings),
    )


def read_decisions(run: RunFolder) -> Mapping[str, Decision]:
    """Read what the reviewers have decided, by pair key."""
    with run.reading() as connection:
        return verdicts.decisions(verdicts.read(connection))


def with_decisions(results: Iterable[RemovalResult], decisions: Mapping[str, Decision]) -> list[RemovalResult]:
    """Return the results with what the reviewers decided about each."""
    return [replace(result, decision=decisions.get(result.pair)) for result in results]


def to_parquet(results: Iterable[RemovalResult]) -> bytes:
    """Write results as Parquet, without the decisions: verdicts are stored in their manifest."""
    rows = [asdict(replace(result, decision=None)) for result in results]
    for row in rows:
        del row["decision"]
        row |= {name: list(row[name].items()) for name in ("measures", "files")}
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()


def from_parquet(data: bytes) -> list[RemovalResult]:
    """Read what `to_parquet` wrote."""
    rows = pq.read_table(pa.BufferReader(data)).to_pylist()
    return [RemovalResult(**{**row, "measures": dict(row["measures"]), "files": dict(row["files"])}) for row in rows]


_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("item_id", "source_id", "pair", "status", "stage", "reason")),
        ("screen_score", pa.float64()),
        ("measures", pa.map_(pa.string(), pa.float64())),
        ("seconds", pa.float64()),
        ("files", pa.map_(pa.string(), pa.string())),
        *((name, pa.string()) for name in ("group", "prompt", "negative")),
        ("seed", pa.int64()),
    ]
)
