"""Sources that were taken down: the log `takedowns.jsonl` of a run folder or an export, which later starts respect.

Each line is a tombstone, and no line is ever removed. It also keeps what the sources that stay need: which place the
pairs had in the shards, so that every other shard keeps its bytes; the names of groups of look-alike sources, so that
none of them changes its split; and the edits that curation left out as copies of what is gone, which do not take its
place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ffpdata.core.errors import DamagedError, shown
from ffpdata.core.keys import SOURCE_CHARS
from ffpdata.core.stage import Item
from ffpdata.manifests.sql_text import literal
from ffpdata.storage.store import Store

LOG = "takedowns.jsonl"

TAKEN_DOWN = "taken_down"
"""Reason of an item whose source, or whose style reference, was taken down."""

STYLE = "style_id"
"""Column that names an item's style image by the hash of its bytes: a style image is a source, too."""

SOURCE_ID = re.compile(f"[0-9a-f]{{{SOURCE_CHARS}}}")


@dataclass(frozen=True)
class Tombstone:
    """One source that was taken down.

    Attributes:
        source_id: hash of the source's bytes, or of the style image's.
        asked: what the request named: a source id, an item, a path.
        reason: as it was given.
        at: when, ISO 8601 in UTC.
        done: whether everything of it is gone; False while the takedown goes on, or was interrupted.
        report: whether there was a report of the run, which is then written anew.
        pairs: the pairs that it had in shards: `track`, `item_id`, `split`, `weight` (expected bytes), and in an export
            also what its card counts.
        groups: name of the group of look-alikes of each source that shared one with it.
        twins: edits that curation left out as copies of its pairs (`curate.select.edit_of`).
    """

    source_id: str
    asked: str
    reason: str
    at: str
    done: bool = False
    report: bool = False
    pairs: list[dict[str, Any]] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)
    twins: list[list[Any]] = field(default_factory=list)

    def checked(self) -> Tombstone:
        """Return it; raises ValueError where it names no source."""
        if not SOURCE_ID.fullmatch(self.source_id):
            raise ValueError(f"{shown(self.source_id)} is no source id, which has 16 hex digits")
        return self


class Tombstones(Sequence[Tombstone]):
    """All tombstones of a folder, oldest first; empty where nothing was taken down."""

    def __init__(self, stones: Iterable[Tombstone] = ()) -> None:
        self._stones = list(stones)
        self.sources = frozenset(stone.source_id for stone in self._stones)

    @classmethod
    def load(cls, store: Store) -> Tombstones:
        """Read the log of a run folder or an export.

        Raises:
            DamagedError: it is not as it was written: without it, what was taken down would come back.
        """
        try:
            text = store.read(LOG)
        except (FileNotFoundError, NotADirectoryError):
            return cls()
        try:
            stones = [Tombstone(**json.loads(line)).checked() for line in text.splitlines()]
        except (ValueError, TypeError, RecursionError) as err:
            raise DamagedError(
                f"{store.root}/{LOG} is damaged ({err}): put it back from a copy. It says what must not be made again"
            ) from err
        return cls(stones)

    def save(self, store: Store) -> None:
        """Write the log."""
        lines = [json.dumps(asdict(stone), sort_keys=True, ensure_ascii=False) for stone in self._stones]
        store.write(LOG, "".join(f"{line}\n" for line in lines).encode())

    def __getitem__(self, place: Any) -> Any:
        return self._stones[place]

    def __len__(self) -> int:
        return len(self._stones)

    def __add__(self, more: Iterable[Tombstone]) -> Tombstones:
        return Tombstones([*self._stones, *more])

    @property
    def pending(self) -> list[Tombstone]:
        """Those whose takedown was not completed."""
        return [stone for stone in self._stones if not stone.done]

    def finished(self) -> Tombstones:
        """The same, all done."""
        return Tombstones(replace(stone, done=True) for stone in self._stones)

    @property
    def pairs(self) -> list[dict[str, Any]]:
        """The pairs that all of them had in shards, each once."""
        return list({(p["track"], p["item_id"]): p for stone in self._stones for p in stone.pairs}.values())

    @property
    def groups(self) -> dict[str, str]:
        """Source to the name of its group, of the sources that shared one with a source that is gone."""
        return {source: name for stone in self._stones for source, name in stone.groups.items()}

    @property
    def twins(self) -> set[tuple[Any, ...]]:
        """Edits that are copies of what is gone."""
        return {tuple(edit) for stone in self._stones for edit in stone.twins}

    def covers(self, values: Mapping[str, Any], source_id: str | None = None) -> str:
        """The source that was taken down and that an item shows, by its columns; empty where there is none."""
        ids = (source_id or values.get("source_id"), values.get(STYLE))
        return next((str(name) for name in ids if name in self.sources), "")

    def why(self, source_id: str) -> str:
        """The text of the column `error` of an item that ends for it."""
        stone = next(stone for stone in self._stones if stone.source_id == source_id)
        return f"{source_id} was taken down on {stone.at[:10]}" + (f": {stone.reason}" if stone.reason else "")

    def without_styles(self, item: Item) -> Item:
        """The item without the style images that were taken down, so that no stage opens one."""
        ids, paths = item.values.get("style_ids") or [], item.values.get("style_paths") or []
        if len(ids) != len(paths) or self.sources.isdisjoint(ids):
            return item
        kept = [(name, path) for name, path in zip(ids, paths, strict=True) if name not in self.sources]
        styles = {"style_ids": [name for name, _ in kept], "style_paths": [path for _, path in kept]}
        return replace(item, values={**item.values, **styles})

    def condition(self, columns: Iterable[str]) -> str:
        """SQL condition for rows that show one of the sources, by those of the columns `source_id` and `STYLE` there.

        It is never null.
        """
        names = ", ".join(literal(name) for name in sorted(self.sources))
        here = [name for name in ("source_id", STYLE) if name in columns]
        found = " or ".join(f"coalesce({name} in ({names}), false)" for name in here)
        return f"({found})" if names and found else "false"
