"""One stage's account in a run: what is done already, what must still be committed. All runners keep the same one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ffpdata.core.execute import Outcome, manifest_rows, next_items
from ffpdata.core.index import StageIndex
from ffpdata.core.manifest import ManifestWriter, stage_schema
from ffpdata.core.stage import Item, Stage
from ffpdata.core.store import Store

DUPLICATE = "duplicate"
"""Reason of an item whose content another item of the same run already has."""

Redo = Callable[[str, Outcome], bool]
"""Says whether a finished outcome of a stage is to be computed again."""


class Ledger:
    """The committed and the fresh outcomes of one stage.

    Args:
        stage: whose outcomes these are.
        store: the run folder.
        writer: where rows go.
        track: the pipeline's track.
        redo: which finished outcomes do not count.
    """

    def __init__(
        self, stage: Stage, store: Store, writer: ManifestWriter, *, track: str, redo: Redo | None = None
    ) -> None:
        self.stage = stage
        self._store, self._writer, self._track, self._redo = store, writer, track, redo
        self._index = StageIndex()
        self._schema = stage_schema(stage.writes)
        self._fresh: dict[str, Outcome] = {}
        self._made: set[str] = set()

    def load(self, waiting: Sequence[tuple[Item, str]]) -> None:
        """Read from the manifest what concerns these items and keys."""
        wanted = [(item.item_id, key) for item, key in waiting]
        found = StageIndex.load(self._store, self.stage.name, self.stage.writes, self._track, wanted)
        self._index.outcomes |= found.outcomes
        self._index.attempts |= found.attempts
        self._index.newest |= found.newest

    def known(self, key: str) -> Outcome | None:
        """The finished outcome of a key, from this start or an earlier one; None where it must be computed."""
        if key in self._fresh:
            return self._fresh[key]
        found = self._index.outcomes.get(key)
        return None if found is None or self.again(key) else found

    def again(self, key: str) -> bool:
        """Whether the key has a finished outcome that is to be computed anew: it must not be adopted either."""
        found = self._index.outcomes.get(key)
        if found is None or key in self._fresh:
            return False
        return found.reason == DUPLICATE or bool(self._redo and self._redo(self.stage.name, found))

    def begin(self, item: Item, key: str) -> Item:
        """The item with the number of attempts that earlier starts made at this key."""
        return replace(item, attempt=self._index.attempts.get((item.item_id, key), 0))

    def settle(self, item: Item, outcome: Outcome, *, fresh: bool) -> list[Item]:
        """Commit an outcome's rows where they are new and return the items that go on.

        Args:
            item: what entered.
            outcome: what became of it.
            fresh: computed just now; otherwise it was known.
        """
        if fresh and outcome.status != "failed":  # another item with the same question is answered too
            self._fresh[outcome.key] = outcome
        shared = outcome.key in self._fresh
        if self.stage.fan_out:
            outcome = self._unique(item, outcome)
        if fresh or shared or self._index.newest.get(item.item_id) != (outcome.key, item.upstream):
            self._writer.add(self.stage.name, manifest_rows(self.stage, item, outcome, self._track), self._schema)
        return next_items(self.stage, item, outcome)

    def _unique(self, item: Item, outcome: Outcome) -> Outcome:
        """Reject an item whose children another item of this run has made already."""
        names = [child.item_id for child in next_items(self.stage, item, outcome)]
        again = [name for name in names if name in self._made]
        self._made.update(names)
        if not again:
            return outcome
        detail = f"the run already has {again[0]}: the same content with the same hints under another path"
        return replace(outcome, status="rejected", reason=DUPLICATE, error=detail, children=[])
