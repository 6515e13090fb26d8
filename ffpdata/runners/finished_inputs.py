"""The manifest `inputs`: one row per input of which every item has ended, so that a resumed run skips it.

A row's key covers what the input says, and the row names the stages that its items came to. A row without an item marks
a changed pipeline or a retry; its key covers the settings, models and prompts of every stage. Earlier rows do not
count, because later rows of the stages may have replaced what they speak of.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from ffpdata.core.keys import KEY_CHARS, digest
from ffpdata.core.stage import Item, Stage
from ffpdata.manifests.connection import open_connection
from ffpdata.manifests.manifest import COMMON, INPUTS, ManifestWriter, stage_schema
from ffpdata.manifests.missing_parts import GAPS, MissingParts
from ffpdata.manifests.part_files import read_part
from ffpdata.manifests.sql_text import literal
from ffpdata.manifests.views import ROW_BITS, ROW_MASK, narrow, stream
from ffpdata.runners.stage_index import TextSet, hashed_columns, hashes

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

_SCHEMA = stage_schema({"stages": list[str]})


class FinishedInputs:
    """Reads which inputs are finished, and writes which are finished now.

    Args:
        stages: the pipeline; its settings, models and prompts count.
        writer: commits rows, those of inputs after those of the stages.
        track: the pipeline's track.
    """

    def __init__(self, stages: Sequence[Stage], writer: ManifestWriter, track: str) -> None:
        self._plan = digest([stage.fixed_key(stage.models) for stage in stages])
        self._first = stages[0]
        self._manifest, self._writer, self._track = writer.manifest, writer, track
        self._started = time.time()
        self._missing = MissingParts(writer.manifest, [stage.name for stage in stages])
        self.lost: list[str] = []
        """Stages of whose manifests somebody deleted a part, as `unfinished` found."""

    def unfinished(self, items: Sequence[Item], *, anew: bool = False) -> NDArray[np.int64]:
        """Positions of the inputs that are not finished, in order. An input's newest row counts.

        Args:
            items: all inputs of this start.
            anew: return every input, because finished outcomes of any of them may be computed again.
        """
        parts = self._manifest.parts(INPUTS)
        with open_connection(self._manifest.store) as connection:
            since = None if anew or not parts else self._since(connection, parts)
            if since is None:
                self._start_over()
                return np.arange(len(items))
            rows = narrow(self._manifest.store, parts, "item_id, key, track")
            mine = f"track = {literal(self._track)} and row > {since}"
            names, keys, places = hashed_columns(connection, f"select item_id, key, row from {rows} where {mine}")
        names, last = _newest(names, places)
        keys = keys[last]
        if not len(names):
            return np.arange(len(items))
        wanted = hashes((item.item_id for item in items), len(items))
        at = np.minimum(names.searchsorted(wanted), len(names) - 1)
        finished = (names[at] == wanted) & (keys[at] == hashes(map(_key, items), len(items)))
        return np.flatnonzero(~finished)

    def made(self, items: Sequence[Item], left: NDArray[np.int64]) -> TextSet:
        """Names of the items that the inputs which are not `left` have made at the first stage."""
        parts = self._manifest.parts(self._first.name)
        if not self._first.fan_out or len(left) in (0, len(items)) or not parts:
            return TextSet()
        rows = narrow(self._manifest.store, parts, "entered_id, item_id, key, started_at, status, track")
        with open_connection(self._manifest.store) as connection:
            entered, names, outcomes, good, places = hashed_columns(
                connection,
                "select entered_id, item_id, concat(key, '|', epoch_us(started_at)), status = 'ok', row "
                f"from {rows} where track = {literal(self._track)}",
            )
        inputs, last = _newest(entered, places)
        if not len(inputs):
            return TextSet()
        newest = outcomes[last][inputs.searchsorted(entered)]
        finished = np.delete(hashes((item.item_id for item in items), len(items)), left)
        return TextSet(names[(outcomes == newest) & good.astype(bool) & np.isin(entered, finished)])

    def add(self, item: Item, stages: Iterable[str]) -> None:
        """Note that everything that came of an input has ended, and at which stages it left rows."""
        row = self._row(item.item_id, _key(item)) | {"stages": sorted(stages)}
        self._writer.add(INPUTS, [row], _SCHEMA)

    def _since(self, connection: duckdb.DuckDBPyConnection, parts: Sequence[str]) -> int | None:
        """Place of the row after which rows count; None where no row counts."""
        rows = narrow(self._manifest.store, parts, "item_id, key, track, stages")
        mine = f"from {rows} where track = {literal(self._track)}"
        begun = connection.execute(f"select row, key {mine} and item_id is null order by row desc limit 1").fetchall()
        if not begun or begun[0][1] != self._plan:
            return None
        since = int(begun[0][0])
        passed: set[str] = set()
        for batch in stream(connection, f"select stages {mine} and row > {since}"):
            passed.update(batch.column(0).flatten().unique().to_pylist())
        # Where somebody deleted a stage's manifest, or a part of it, its rows must be written again, by this start or
        # a later one.
        if not all(self._manifest.parts(name) for name in passed):
            return None
        self.lost = self._missing.stages(parts, known=self._note(parts[since >> ROW_BITS], since & ROW_MASK))
        return None if self.lost else since

    def _note(self, part: str, row: int) -> dict[str, Any]:
        """The notes of one row of this manifest."""
        notes = read_part(self._manifest.store, part, ["notes"]).to_pylist()[row]
        return dict(json.loads(notes.get("notes") or "{}"))

    def _start_over(self) -> None:
        """Commit, before any row of a stage, that earlier rows no longer count."""
        gaps = self._missing.gaps()
        notes = {"notes": json.dumps({GAPS: gaps}) if gaps else None}
        self._writer.add(INPUTS, [self._row(None, self._plan) | notes], _SCHEMA)
        self._writer.flush()

    def _row(self, item_id: str | None, key: str) -> dict[str, Any]:
        row: dict[str, Any] = dict.fromkeys(COMMON.names)
        return row | {
            "item_id": item_id,
            "entered_id": item_id,
            "track": self._track,
            "stage": INPUTS,
            "key": key,
            "status": "ok",
            "started_at": datetime.fromtimestamp(self._started, UTC),
        }


def _newest(names: NDArray[np.int64], places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The distinct names, sorted, and the position of each one's newest row."""
    order = np.lexsort((-places, names))
    distinct, first = np.unique(names[order], return_index=True)
    return distinct, order[first]


def _key(item: Item) -> str:
    """Content key of an input, made for every input before the first task: `digest` takes four times as long.

    The same content in another order has another key; then the input is walked again, and nothing is computed.
    """
    return hashlib.sha256(repr(item.values).encode()).hexdigest()[:KEY_CHARS]
