"""The inline runner: stages in order, items in order, in this process. For small runs, tests and debugging."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ffpdata.core.errors import FatalError
from ffpdata.core.execute import Outcome, execute, manifest_rows, next_items, stage_key
from ffpdata.core.index import StageIndex
from ffpdata.core.manifest import ManifestWriter, stage_schema
from ffpdata.core.stage import Item, Stage
from ffpdata.core.store import Store
from ffpdata.runners.progress import Progress

DUPLICATE = "duplicate"
"""Reason of an item whose content another item of the same run already has."""

Redo = Callable[[str, Outcome], bool]
"""Says whether a finished outcome of a stage is to be computed again."""


def run_inline(
    stages: Sequence[Stage],
    items: Sequence[Item],
    store: Store,
    writer: ManifestWriter,
    progress: Progress,
    *,
    track: str,
    max_attempts: int = 3,
    redo: Redo | None = None,
) -> list[Item]:
    """Take the items through all stages and return those that passed the last one.

    Every item that enters a stage gets a row there. What is done already is taken from the manifest, whoever did it.
    """
    for stage in stages:
        passed: list[Item] = []
        waiting = [(item, stage_key(stage, item)) if stage.applies(item.values) else (item, "") for item in items]
        wanted = [(item.item_id, key) for item, key in waiting if key]
        index = StageIndex.load(store, stage.name, stage.writes, track, wanted)
        progress.enter(stage.name, len(wanted))
        worker = _Worker(stage, store, index, progress, max_attempts=max_attempts, redo=redo)
        schema = stage_schema(stage.writes)
        seen: set[str] = set()
        try:
            for item, key in waiting:
                if not key:
                    passed.append(item)
                    continue
                outcome, known = worker.outcome(item, key)
                if stage.fan_out:
                    outcome = _unique(stage, item, outcome, seen)
                if not known or index.newest.get(item.item_id) != (key, item.upstream):
                    writer.add(stage.name, manifest_rows(stage, item, outcome, track), schema)
                passed += next_items(stage, item, outcome)
        finally:
            worker.close()
        progress.leave(stage.name)
        items = passed
    return list(items)


class _Worker:
    """One stage at work: set up at the first item that needs it, torn down at the end."""

    def __init__(
        self,
        stage: Stage,
        store: Store,
        index: StageIndex,
        progress: Progress,
        *,
        max_attempts: int,
        redo: Redo | None,
    ) -> None:
        self._stage, self._store, self._index, self._progress = stage, store, index, progress
        self._max_attempts, self._redo = max_attempts, redo
        self._ready = False
        self._fresh: set[str] = set()

    def outcome(self, item: Item, key: str) -> tuple[Outcome, bool]:
        """Return the item's outcome, and whether it was there already."""
        found = self._index.outcomes.get(key)
        again = False
        if found is not None and key not in self._fresh:
            again = found.reason == DUPLICATE or bool(self._redo and self._redo(self._stage.name, found))
        if found is not None and not again:
            self._progress.kept(self._stage.name)
            return found, key not in self._fresh
        if not self._ready:
            self._ready = True  # also a set-up that fails half-way is torn down
            set_up(self._stage)
        tries = self._index.attempts.get((item.item_id, key), 0)
        started = Item(item.item_id, item.values, item.parent_id, item.source_id, item.upstream, tries)
        self._progress.begin(self._stage.name)
        outcome = execute(self._stage, started, self._store, key=key, max_attempts=self._max_attempts, adopt=not again)
        self._progress.end(self._stage.name, outcome.status)
        if outcome.status != "failed":  # another item with the same question is answered too
            self._index.outcomes[key] = outcome
            self._fresh.add(key)
        return outcome, False

    def close(self) -> None:
        if self._ready:
            self._stage.teardown()


def set_up(stage: Stage) -> None:
    """Set a stage up; whatever goes wrong there is the run's error, with the stage named."""
    try:
        stage.setup()
    except FatalError:
        raise
    except Exception as err:
        raise FatalError(f"stage {stage.name!r} could not start: {type(err).__name__}: {err}") from err


def _unique(stage: Stage, item: Item, outcome: Outcome, seen: set[str]) -> Outcome:
    """Reject an item whose children another item of this run has made already."""
    names = [child.item_id for child in next_items(stage, item, outcome)]
    again = [name for name in names if name in seen]
    seen.update(names)
    if not again:
        return outcome
    detail = f"the run already has {again[0]}: the same content with the same hints under another path"
    return Outcome(**{**vars(outcome), "status": "rejected", "reason": DUPLICATE, "error": detail, "children": []})
