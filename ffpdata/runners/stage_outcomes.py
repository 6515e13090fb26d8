"""One stage's account in a run: what is done already, what must still be committed. All runners keep the same one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from ffpdata.core.stage import Item, Stage
from ffpdata.manifests.manifest import ManifestWriter, stage_schema
from ffpdata.runners.execute import Outcome, manifest_rows, next_items
from ffpdata.runners.outcome_index import FinishedKeys, StageIndex
from ffpdata.storage.store import Store

KEPT_OUTCOMES = 10_000
"""Fresh outcomes of a stage that stay in memory; older ones are read back from the manifest where one is asked for."""

Redo = Callable[[Stage, Outcome], bool]
"""Says whether a finished outcome of a stage is to be computed again."""


class StageOutcomes:
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
        self._keys = FinishedKeys(store, stage.name)
        self._index = StageIndex(store, stage.name, stage.writes, track)
        self._loaded: dict[str, Outcome] = {}
        self._again: set[str] = set()
        self._schema = stage_schema(stage.writes)
        self._fresh: OrderedDict[str, Outcome] = OrderedDict()
        self._spilled = self._indexed = False

    def maybe(self, key: str) -> bool:
        """Whether the key may have a finished outcome: `load` tells. False is certain."""
        return key in self._keys

    def load(self, waiting: Sequence[tuple[Item, str]]) -> None:
        """Read from the manifest what concerns these items and keys; `known` and `held` answer for them alone."""
        keys = [key for _, key in waiting if key not in self._fresh]
        if not self._indexed or (self._spilled and not all(key in self._index for key in keys)):
            self._writer.flush()  # rows that are still in its buffer may be asked for
            self._index.refresh()
            self._indexed = True
        self._loaded = self._index.outcomes(keys)
        # Asked once for each: it may look for every file of the outcome.
        self._again = {k for k, found in self._loaded.items() if self._redo and self._redo(self.stage, found)}

    def known(self, key: str) -> Outcome | None:
        """The finished outcome of a key, from this start or an earlier one; None where it must be computed."""
        if key in self._fresh:
            return self._fresh[key]
        found = self._loaded.get(key)
        return None if key in self._again else found

    def again(self, key: str) -> bool:
        """Whether the key has a finished outcome that is to be computed anew: it must not be adopted either."""
        return key in self._again and key not in self._fresh

    def held(self, item: Item, key: str) -> bool:
        """Whether the item's newest row is of this very key and lineage already."""
        return key not in self._fresh and self._index.held(item.item_id, key, item.upstream)

    def attempts(self, item: Item, key: str) -> int:
        """How often earlier starts began the item at this key and failed."""
        return self._keys.attempts.get((item.item_id, key), 0)

    def remember(self, outcome: Outcome) -> None:
        """Keep an outcome that was computed just now: another item with the same question is answered too."""
        if outcome.status == "failed":
            return
        self._fresh[outcome.key] = outcome
        self._keys.add(outcome.key)
        if len(self._fresh) > KEPT_OUTCOMES:
            self._fresh.popitem(last=False)
            self._spilled = True

    def settle(self, item: Item, outcome: Outcome, *, commit: bool) -> list[Item]:
        """Write an outcome's rows, unless the newest say the same, and return the items that go on."""
        if commit:
            self._writer.add(self.stage.name, manifest_rows(self.stage, item, outcome, self._track), self._schema)
        return next_items(self.stage, item, outcome)
