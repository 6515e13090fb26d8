"""The pairs of a run that can be reviewed: those with a source and a target that passed or were rejected."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from ffpdata.core.config import Pipeline
from ffpdata.curate.verdicts import Verdict, events, last_key, pair_key, read
from ffpdata.manifests.run_folder import RunFolder
from ffpdata.manifests.sql_text import literal
from ffpdata.manifests.views import CURATE
from ffpdata.review.requests import requested_pairs

PASSED = "passed"
"""Status of a pair that passed all stages; the status of a rejected one is the name of the stage."""

FILES = {"source": "source_video", "target": "target_video", "mask": "mask_video", "reference": "reference_image"}
"""Kinds of files that can be shown of a pair, and the column of each."""

FACT_COLUMNS = (
    *("item_id", "status", "reason", "error", "instruction", "object", "variant", "caption", "target_caption"),
    *("cinematic_caption", "style", "style_caption", "screen_score", "screen_reason", "discriminate_reason"),
    *("verify_score", "verify_reason", "psnr_outside", "change_inside", "change", "colour_drift", "structure"),
    *("flicker", "motion", "licence"),
)
"""Columns that the page shows of a pair, where it has them."""

GRADED = {"verify": "verify_score", "screen": "screen_score"}
"""Stage to the column of its score, which passes from the stage's `min_score` on; both 0..10."""
UNSURE = 0.5
"""The score of `grade` at which a pair is as likely to be accepted as not."""

FILTERS = ("track", "task", "variant", "status")

Order = Literal["uncertain", "best", "worst", "random"]


class PairFilter(BaseModel):
    """Which pairs a reviewer gets, and in which order."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    track: str | None = None
    task: str | None = None
    variant: str | None = None
    status: str | None = PASSED
    """`passed`, or the stage that rejected the pair; None for all."""
    flagged: bool = False
    """Only pairs that somebody flagged."""
    compared: bool = False
    """Only pairs whose verdicts are requested (`review.requests`): the refinement loop compares a round by them."""
    order: Order = "uncertain"
    """`uncertain`: the score nearest to its threshold first. `random` depends on the seed alone."""
    seed: int = Field(default=0, ge=0, lt=2**31)

    def matches(self, pair: ReviewPair) -> bool:
        """Return whether a pair passes the filters."""
        same = all(getattr(self, name) in (None, getattr(pair, name)) for name in FILTERS)
        return same and (pair.compared or not self.compared)


@dataclass(frozen=True, slots=True)
class ReviewPair:
    """One pair in its current state.

    Attributes:
        key: its name on the page and in URLs (`curate.verdicts.pair_key`).
        row_index: of its row in the table of all pairs.
        track, task, variant: of the pair; an unknown task is `unknown`, no variant is empty.
        status: `PASSED`, or the stage that rejected it.
        score: 0..10, of the last graded stage, ten times the probability of `grade`; None where no stage graded it.
        margin: distance of that probability to one half, times ten; without `grade` the smallest distance of its scores
            to their thresholds. None where there is none.
        compared: whether its verdict is requested (`review.requests`).
    """

    key: str
    row_index: int
    track: str
    task: str
    variant: str
    status: str
    score: float | None
    margin: float | None
    compared: bool = False


class ReviewPairs:
    """All pairs of a run that can be reviewed, at the time this object is created.

    Attributes:
        by_key: the pairs by key.
        verdicts: current verdicts by pair key and reviewer; also of pairs that were since made again.
        events: number of verdicts ever given, by pair key and reviewer; an undo counts, too.
    """

    def __init__(self, run: RunFolder) -> None:
        self.by_key: dict[str, ReviewPair] = {}
        self._table, found, self.verdicts, self.events = _load(run)
        for pair in found:
            self.by_key[pair.key] = pair

    def row(self, pair: ReviewPair) -> dict[str, Any]:
        """Return a pair's columns of the view `items`, and `upstream`, the key of its last row."""
        (row,) = self._table.slice(pair.row_index, 1).to_pylist()
        return dict(row)

    def files(self, pair: ReviewPair) -> dict[str, str]:
        """Return kind to path of a pair's files, relative to the run folder."""
        row = self.row(pair)
        return {kind: row[column] for kind, column in FILES.items() if row.get(column)}

    def select(self, filters: PairFilter) -> list[ReviewPair]:
        """Return the pairs that pass the filters, in their order."""
        return sorted(filter(filters.matches, self.by_key.values()), key=_ORDERS[filters.order](filters.seed))

    def counts(self) -> dict[str, dict[str, int]]:
        """Return per filter its values, each with its number of pairs."""
        return {name: dict(sorted(Counter(getattr(p, name) for p in self.by_key.values()).items())) for name in FILTERS}


def _shuffle_key(pair: ReviewPair, seed: int) -> bytes:
    """Sort key that shuffles pairs: neighbours come from different sources."""
    return hashlib.blake2b(f"{seed} {pair.key}".encode(), digest_size=8).digest()


def _last_if_none(value: float | None) -> float:
    return float("inf") if value is None else value


_ORDERS: Mapping[str, Callable[[int], Callable[[ReviewPair], Any]]] = {
    "uncertain": lambda seed: lambda pair: (_last_if_none(pair.margin), _shuffle_key(pair, seed)),
    "best": lambda seed: lambda pair: (-(pair.score or 0.0), _shuffle_key(pair, seed)),
    "worst": lambda seed: lambda pair: (_last_if_none(pair.score), _shuffle_key(pair, seed)),
    "random": lambda seed: lambda pair: _shuffle_key(pair, seed),
}


def _load(
    run: RunFolder,
) -> tuple[pa.Table, list[ReviewPair], dict[str, dict[str, Verdict]], dict[str, Counter[str]]]:
    """Read a run: the table of all pairs, the pairs in its order, the current verdicts and the numbers of all."""
    pipelines = run.pipelines()
    tables: list[pa.Table] = []
    pairs: list[ReviewPair] = []
    requested = requested_pairs(run.store)
    with run.connect() as connection:
        verdicts, given = read(connection), events(connection)
        items = connection.view("items") if pipelines else None
        if items is None or not {"source_video", "target_video"} <= set(items.columns):
            return pa.table({}), [], verdicts, given
        ended = items.filter(
            f"source_video is not null and target_video is not null and (status in ('ok', 'rejected') "
            f"or stage = {literal(CURATE)})"
        )
        names = ("parent_id", "source_id", "track", "task", "stage", "width", "height", "frames", "fps")
        present = [name for name in (*names, *FACT_COLUMNS, *FILES.values()) if name in items.columns]
        for track, pipeline in pipelines.items():
            stages = [entry.name for entry in pipeline.stages]
            columns = ", ".join([*present, f"{last_key(stages)} as upstream"])
            mine = ended.filter(f"track = {literal(track)}").project(columns).order("item_id")
            table = pa.table(mine.to_arrow_table())
            offset = sum(each.num_rows for each in tables)
            pairs += [
                _pair(row, row_index, pipeline, requested) for row_index, row in enumerate(_filter_rows(table), offset)
            ]
            tables.append(table)
    return pa.concat_tables(tables, promote_options="permissive").combine_chunks(), pairs, verdicts, given


def _filter_rows(table: pa.Table) -> Sequence[dict[str, Any]]:
    """Return the columns that filters and orders need: all columns of many pairs would take much memory."""
    names = ("item_id", "upstream", "track", "task", "variant", "status", "stage", "score", *GRADED.values())
    rows: list[dict[str, Any]] = table.select([n for n in names if n in table.column_names]).to_pylist()
    return rows


def _pair(row: Mapping[str, Any], row_index: int, pipeline: Pipeline, requested: Collection[str]) -> ReviewPair:
    settings = {entry.name: entry.settings for entry in pipeline.stages}
    graded = [(row[column], stage) for stage, column in GRADED.items() if row.get(column) is not None]
    margins = [
        abs(score - settings[stage]["min_score"]) for score, stage in graded if "min_score" in settings.get(stage, {})
    ]
    if row.get("score") is not None and "grade" in settings:
        # A probability: reviewers learn most where it is one half. Ten times it is on the scale of the others.
        margins = [10 * abs(row["score"] - UNSURE)]
        graded.insert(0, (10 * row["score"], "grade"))
    key = pair_key(row["track"], row["item_id"], row["upstream"])
    return ReviewPair(
        key=key,
        row_index=row_index,
        track=row["track"],
        task=row["task"] or "unknown",
        variant=row.get("variant") or "",
        status=PASSED if row["status"] == "ok" or row["stage"] == CURATE else row["stage"],
        score=graded[0][0] if graded else None,
        margin=min(margins, default=None),
        compared=key in requested,
    )
