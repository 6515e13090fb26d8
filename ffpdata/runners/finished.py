"""Inputs that are through: one row per input whose every item ended, so that a resume need not walk it again.

The rows lie in a manifest of their own, `inputs`. An input's key covers what the input says and how every stage of the
pipeline is set up; so whatever changes, the input is walked again, stage by stage. A row names the stages that its input
came to: where somebody deleted the manifest of one of them, no input is through any more.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from ffpdata.core.keys import digest
from ffpdata.core.manifest import COMMON, INPUTS, Manifest, ManifestWriter, stage_schema
from ffpdata.core.stage import Item, Stage
from ffpdata.core.store import Store
from ffpdata.core.views import scan

_SCHEMA = stage_schema({"stages": list[str]})


class FinishedInputs:
    """Which inputs are through, and where new ones are noted.

    Args:
        stages: the pipeline; its settings, models and prompts count.
        store: the run folder.
        writer: where rows go. It commits them after the rows of the stages.
        track: the pipeline's track.
    """

    def __init__(self, stages: Sequence[Stage], store: Store, writer: ManifestWriter, track: str) -> None:
        self._plan = digest([stage.fixed_key(stage.models) for stage in stages])
        self._store, self._writer, self._track = store, writer, track
        self._started = time.time()

    def key(self, item: Item) -> str:
        """Content key of an input under this pipeline."""
        return digest(self._plan, item.values)

    def unfinished(self, items: Sequence[Item]) -> list[int]:
        """Positions of the inputs that are not through, in order. What counts is an input's newest row."""
        manifest = Manifest(self._store)
        if not manifest.parts(INPUTS):
            return list(range(len(items)))
        wanted = pa.table({"item_id": [i.item_id for i in items], "key": [self.key(i) for i in items]})
        connection = duckdb.connect()
        if not self._store.local:
            connection.register_filesystem(self._store.fs)
        connection.register("_wanted", wanted.append_column("seq", pa.array(range(len(items)), pa.int64())))
        rows = scan(self._store, INPUTS)
        passed = connection.sql(f"select distinct unnest(stages) from (select distinct stages from {rows})").fetchall()
        if not all(manifest.parts(name) for (name,) in passed):
            return list(range(len(items)))
        order = "part || lpad(part_row::text, 12, '0')"
        found = connection.sql(
            f"with newest as (select item_id, arg_max(key, {order}) as key from {rows} "
            "where track = $track group by item_id) "
            "select seq from _wanted anti join newest using (item_id, key) order by seq",
            params={"track": self._track},
        )
        left = [row[0] for row in found.fetchall()]
        connection.close()
        return left

    def add(self, item: Item, stages: Iterable[str]) -> None:
        """Note that everything that came of an input has ended, and at which stages it left rows."""
        row: dict[str, Any] = dict.fromkeys(COMMON.names)
        row |= {
            "item_id": item.item_id,
            "entered_id": item.item_id,
            "track": self._track,
            "stage": INPUTS,
            "key": self.key(item),
            "status": "ok",
            "started_at": datetime.fromtimestamp(self._started, UTC),
            "stages": sorted(stages),
        }
        self._writer.add(INPUTS, [row], _SCHEMA)
