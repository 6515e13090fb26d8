"""What a round's model made of every removal: a row per item, kept so that rounds are compared on the same items."""

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
from ffpdata.manifests.views import CURATE, literal, quote
from ffpdata.stages.measure import METRICS
from ffpdata.stages.synthesize import Synthesize, edit_arguments

if TYPE_CHECKING:
    from ffpdata.core.config import Pipeline
    from ffpdata.curate.verdicts import Decision

OK = "ok"
TASK = "removal"
FILES = ("source_video", "condition_mask", "mask_video", "target_video")
"""Columns of the files that a removal has."""


@dataclass(frozen=True)
class RemovalResult:
    """One removal under one model.

    Attributes:
        item_id: the edit.
        source_id: the source of its clip; edits of one source are not independent.
        pair: names the pair as this model made it (`curate.verdicts.pair_key`); verdicts are found by it.
        status: `ok` where every gate was passed, else `rejected` or `failed`.
        stage: the last one that it reached.
        reason: why it went no further.
        screen_score: 0..10; None where it was rejected before the screening.
        measures: numbers of the stage `measure` by name; those that were not measured are left out.
        seconds: how long the synthesis took.
        files: column to path in the run: `source_video`, `target_video`, `mask_video`, `condition_mask`; a target that
            was never made is left out.
        decision: what the reviewers decided about this very pair; None where nobody did.
        group: sources that look alike share one, where curation has seen them.
        prompt: what the model was told to show.
        negative: what it was told to leave out.
        seed: of its noise.
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


def take(run: RunFolder, pipeline: Pipeline) -> list[RemovalResult]:
    """Read the removals of a run as they are now, those that came to the synthesis; in the order of their ids.

    Args:
        run: the run.
        pipeline: of the track that makes removals.

    Raises:
        FatalError: some have not come to their end yet.
    """
    stages = [entry.name for entry in pipeline.stages]
    settings = next(stage.settings for stage in pipeline.build() if isinstance(stage, Synthesize))
    with run.reading() as connection:
        items = connection.view("items")
        told = ("caption", "target_caption", "object", "task", "seed", "screen_score", "source_group")
        names = [name for name in (*told, *METRICS, *FILES) if name in items.columns]
        columns = ["item_id", "source_id", "status", "stage", "reason", *map(quote, names)]
        columns += [f"synthesize_seconds as seconds, {verdicts.last_key(stages)} as upstream"]
        mine = items.filter(f"track = {literal(pipeline.track)} and task = {literal(TASK)}")
        [(waiting,)] = mine.filter("status = 'pending'").aggregate("count(*)").fetchall()
        if waiting:
            raise FatalError(
                f"{waiting} removals of {run.store.root} have not come to their end: finish the run first, with "
                "`ffpdata run` as before or `ffpdata retry`"
            )
        reached = mine.filter("synthesize_key is not null").project(", ".join(columns)).order("item_id")
        rows = pa.table(reached.to_arrow_table()).to_pylist()
    return [_outcome(row, pipeline.track, settings) for row in rows]


def _outcome(row: dict[str, Any], track: str, settings: Any) -> RemovalResult:
    through = row["status"] == OK or row["stage"] == CURATE  # curation chooses among pairs that passed
    return RemovalResult(
        item_id=row["item_id"],
        source_id=row["source_id"],
        pair=verdicts.pair_key(track, row["item_id"], row["upstream"]),
        status=OK if through else row["status"],
        stage=row["stage"],
        reason=None if through else row["reason"],
        screen_score=row.get("screen_score"),
        measures={name: row[name] for name in METRICS if row.get(name) is not None},
        seconds=row["seconds"] or 0.0,
        files={name: row[name] for name in FILES if row.get(name)},
        group=row.get("source_group") or row["source_id"],
        **edit_arguments(row, settings),
    )


def decided(run: RunFolder) -> Mapping[str, Decision]:
    """What the reviewers decided up to now, by pair."""
    with run.reading() as connection:
        return verdicts.decisions(verdicts.read(connection))


def judged(outcomes: Iterable[RemovalResult], decisions: Mapping[str, Decision]) -> list[RemovalResult]:
    """The same outcomes with what the reviewers decided about each."""
    return [replace(outcome, decision=decisions.get(outcome.pair)) for outcome in outcomes]


def dump(outcomes: Iterable[RemovalResult]) -> bytes:
    """Write outcomes as Parquet, without the verdicts: those live in their manifest."""
    rows = [asdict(replace(outcome, decision=None)) for outcome in outcomes]
    for row in rows:
        del row["decision"]
        row |= {name: list(row[name].items()) for name in ("measures", "files")}
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), buffer, compression="zstd")
    return buffer.getvalue()


def parse(data: bytes) -> list[RemovalResult]:
    """Read what `dump` wrote."""
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
