"""What of a run is finished: the one account that every runner asks before it computes and tells afterwards.

Done has one meaning: a row with the item's key exists and is `ok` or `rejected`. Three places know it, and each must
stay. The rows are the truth, and `StageIndex` finds them: by their keys alone (8 bytes each) until the first row is
asked for, because a start that computes everything anew needs no places. The manifest `inputs` says which inputs have
only finished rows, so that a million of them resume in seconds without being walked through every stage. An outcome
record (`Outcome.save`) lies beside the artifacts, because the worker that made them may be killed before the runner,
which alone writes manifests, has committed the row.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ffpdata.core.stage import Item, Stage
from ffpdata.manifests.connection import open_connection
from ffpdata.manifests.manifest import ManifestWriter, stage_schema
from ffpdata.manifests.tombstones import Tombstones
from ffpdata.runners.finished_inputs import FinishedInputs
from ffpdata.runners.stage_index import StageIndex, TextSet
from ffpdata.runners.task import Outcome, Task

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

DUPLICATE = "duplicate"
"""Reason of an item whose content another item of the same run already has."""

KEPT_OUTCOMES = 10_000
"""Outcomes of a stage in this start that stay in memory; older ones are read back from the manifest where needed."""

Redo = Callable[[Stage, Outcome], bool]
"""Says whether a finished outcome of a stage is to be computed again."""


@dataclass
class _StageAccount:
    """What is known of one stage."""

    index: StageIndex
    schema: pa.Schema
    recent: OrderedDict[str, Outcome] = field(default_factory=OrderedDict)
    """The newest finished outcomes of this start, by key."""
    forgotten: bool = False
    """Whether outcomes of this start are no longer in `recent`."""
    refreshed: bool = False


@dataclass
class _OpenInput:
    """An input of which not every item has ended."""

    item: Item
    open: int = 1
    clean: bool = True
    """Nothing of it failed, was left out or is a duplicate."""
    stages: set[str] = field(default_factory=set)


class FinishedWork:
    """The finished inputs, items and outcomes of a run.

    Args:
        stages: the pipeline.
        writer: commits rows to the run's manifests, which are read, too.
        track: the pipeline's track.
        redo: which finished outcomes are computed again; None redoes nothing.
    """

    def __init__(
        self, stages: Sequence[Stage], writer: ManifestWriter, *, track: str, redo: Redo | None = None
    ) -> None:
        self.stages = list(stages)
        self._writer, self._track, self._redo = writer, track, redo
        self._inputs = FinishedInputs(stages, writer, track)
        manifest = writer.manifest
        self._tombstones = Tombstones.load(manifest.store)
        with open_connection(manifest.store) as connection:
            self._accounts = [
                _StageAccount(
                    StageIndex(manifest, stage.name, stage.writes, track, connection), stage_schema(stage.writes)
                )
                for stage in stages
            ]
        self._open: dict[int, _OpenInput] = {}
        self._entered = 0
        self._made = TextSet()
        """Names of the items that the inputs have made at the first stage, finished inputs included."""

    def unfinished(self, items: Sequence[Item]) -> NDArray[np.int64]:
        """Positions of the inputs that this start must walk, in order; `items` are all its inputs."""
        # What is to be redone may belong to any input, so all of them are walked.
        left = self._inputs.unfinished(items, anew=self._redo is not None)
        self._made = self._inputs.made(items, left)
        return left

    @property
    def lost(self) -> list[str]:
        """Stages of whose manifests a part was deleted since the last start; `unfinished` then returns every input."""
        return self._inputs.lost

    def enter(self, item: Item) -> int:
        """Note that an input is walked, and return its number for `Task.origin`."""
        self._entered += 1
        self._open[self._entered] = _OpenInput(item)
        return self._entered

    def taken_down(self, item: Item) -> str:
        """Why nothing is made of an item any more: its source was taken down; empty where it was not."""
        source = self._tombstones.covers(item.values, item.source_id)
        return self._tombstones.why(source) if source else ""

    def as_seen(self, item: Item) -> Item:
        """The item as a stage is to see it: without style images that were taken down."""
        return self._tombstones.without_styles(item)

    def may_be_done(self, task: Task) -> bool:
        """Whether a new task may have a finished outcome, which `look_up` tells; False is certain. Sets `attempt`."""
        index = self._accounts[task.stage].index
        task.attempt = index.attempts.get((task.item.item_id, task.key), 0)
        return task.key in index

    def look_up(self, tasks: Sequence[Task]) -> list[Outcome | None]:
        """The finished outcomes of tasks of one stage, None where a task must be computed.

        Sets `adopt` and `committed` of each task.
        """
        if not tasks:
            return []
        account, stage = self._accounts[tasks[0].stage], self.stages[tasks[0].stage]
        index, recent = account.index, account.recent
        keys = [task.key for task in tasks if task.key not in recent]
        if not account.refreshed or (account.forgotten and not index.has_places(keys)):
            self._writer.flush()  # rows that are still in its buffer may be asked for
            index.refresh()
            account.refreshed = True
        found = index.outcomes(keys)
        # Asked once for each key: it may look for every file of the outcome.
        again = {key for key, outcome in found.items() if self._redo and self._redo(stage, outcome)}
        for key in again:
            del found[key]
        known = [recent.get(task.key) or found.get(task.key) for task in tasks]
        for task, outcome in zip(tasks, known, strict=True):
            task.adopt = task.key not in again
            task.committed = outcome is not None and index.is_newest(outcome, task.item)
        return known

    def keep(self, task: Task, outcome: Outcome) -> None:
        """Note an outcome that was computed just now: other items with the same key need not be computed."""
        if outcome.status == "failed":
            return
        account = self._accounts[task.stage]
        account.recent[task.key] = outcome
        account.index.add(task.key)
        if len(account.recent) > KEPT_OUTCOMES:
            account.recent.popitem(last=False)
            account.forgotten = True

    def settle(self, task: Task, outcome: Outcome, *, computed: bool) -> list[Item]:
        """Commit an outcome's rows, unless the newest rows say the same, and return the items that go on.

        Args:
            task: of the outcome.
            outcome: computed just now, or one that `look_up` found.
            computed: whether it was computed just now.
        """
        stage = self.stages[task.stage]
        items = outcome.items(stage, task.item)
        if not task.stage and stage.fan_out and (twin := self._claim(items)):
            error = f"the run already has {twin}: the same content with the same hints under another path"
            own = outcome.children[0].columns
            path = {"path": own["path"]} if own.get("path") and "path" in stage.writes else {}
            outcome = replace(outcome, status="rejected", reason=DUPLICATE, error=error, children=[], facts=path)
            items = []
        if computed or not task.committed or outcome.reason == DUPLICATE:
            rows = outcome.rows(stage, task.item, self._track)
            self._writer.add(stage.name, rows, self._accounts[task.stage].schema)
        line = self._open.get(task.origin)
        if line:
            line.stages.add(stage.name)
            line.open += len(items)
        self.leave(task.origin, clean=outcome.status != "failed" and outcome.reason != DUPLICATE)
        return items

    def leave(self, origin: int, *, clean: bool = True) -> None:
        """Note that an item of an input has ended; after the last one the input is finished, if all were clean."""
        line = self._open.get(origin)
        if line is None:
            return
        line.open -= 1
        line.clean &= clean
        if not line.open:
            del self._open[origin]
            if line.clean:
                self._inputs.add(line.item, line.stages)

    def _claim(self, items: Sequence[Item]) -> str:
        """Note the names that an input makes, and return the first that another input made before; empty where none."""
        twins = [item.item_id for item in items if item.item_id in self._made]
        for item in items:
            self._made.add(item.item_id)
        return twins[0] if twins else ""
