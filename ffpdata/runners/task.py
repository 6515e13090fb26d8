"""A task, which is one item before one stage, and its outcome.

An outcome has one type on its whole way: a worker returns it, the outcome record beside the artifacts holds it as JSON,
and the manifest holds it as one row per child. All these forms are written and read here, so that what is read back
equals what was written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ffpdata.core.stage import Artifact, Child, Item, Stage
from ffpdata.manifests.manifest import decode, encode
from ffpdata.storage.digests import wrong_content
from ffpdata.storage.store import Store

_SEAL = "sha256"


@dataclass(eq=False)
class Task:
    """One item before one stage.

    Attributes:
        key: content key of the item at the stage.
        stage: number of the stage in the pipeline.
        order: position among the items that came to the stage.
        origin: number of the input that the item comes from, in this start of the run.
        attempt: how often earlier starts tried the item at this key, without success.
        adopt: whether an outcome record in the run folder may be used.
        committed: whether the item's newest row says what its known outcome says, so that no other is written.
        suspect: a worker died while this may have been running: it runs alone.
        deaths: workers that died while they ran this alone.
        seen: what the stage sees of the item; its key and what goes on are those of `item`.
    """

    item: Item
    key: str
    stage: int
    order: int = 0
    origin: int = -1
    attempt: int = 0
    adopt: bool = True
    committed: bool = False
    suspect: bool = False
    deaths: int = 0
    seen: Item | None = None


@dataclass
class Outcome:
    """What became of one item at one stage.

    Attributes:
        status: `ok`, `rejected` or `failed`.
        key: content key of the task.
        children: what goes on to the next stage: one per child of a fan-out, one otherwise, none unless `ok`.
        facts: columns of a rejected row that were measured before the decision.
        started_at: Unix time, seconds.
        notes: what the stage noted of its work (`Row.notes`).
        artifacts: size and SHA-256 of the files that it wrote, by path (`storage/digests`).
    """

    status: str
    key: str
    reason: str = ""
    error: str = ""
    children: list[Child] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    attempt: int = 1
    started_at: float = 0.0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    worker: str = ""
    model: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def items(self, stage: Stage, item: Item) -> list[Item]:
        """The items that go on to the next stage; `item` is the one that entered."""
        # A stage's own columns replace what an earlier stage wrote there, also when it leaves them unset.
        kept = {k: v for k, v in item.values.items() if k not in stage.writes}
        items = []
        for child in self.children:
            item_id, parent_id, source_id = item.item_id, item.parent_id, item.source_id
            if stage.fan_out:
                parent_id = item.item_id
                source_id = child.source_id or item.source_id
                item_id = child.suffix if child.source_id else f"{item.item_id}/{child.suffix}"
            items.append(Item(item_id, {**kept, **child.columns}, parent_id, source_id, upstream=self.key))
        return items

    # --- as manifest rows ---

    def rows(self, stage: Stage, item: Item, track: str) -> list[dict[str, Any]]:
        """Manifest rows: one per child, or one for the item that was rejected or failed."""
        base = {
            "entered_id": item.item_id,
            "track": track,
            "stage": stage.name,
            "key": self.key,
            "upstream": item.upstream,
            "status": self.status,
            "reason": self.reason or None,
            "error": self.error or None,
            "attempt": self.attempt,
            "started_at": datetime.fromtimestamp(self.started_at, UTC),
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "worker": self.worker,
            "model": self.model or None,
            "notes": json.dumps(self.notes, sort_keys=True) if self.notes else None,
        }
        own = [(item, self.facts)]
        if self.status == "ok":
            after = self.items(stage, item)
            own = [(one, {n: one.values[n] for n in stage.writes if one.values.get(n) is not None}) for one in after]
        return [
            base
            | encode(columns, stage.writes)
            | {"artifacts": self._facts_of(stage, columns)}
            | {"item_id": one.item_id, "parent_id": one.parent_id, "source_id": one.source_id}
            for one, columns in own
        ]

    def _facts_of(self, stage: Stage, columns: Mapping[str, Any]) -> str | None:
        """What a row tells of its files, by column, as JSON."""
        paths = {name: columns[name] for name in _file_columns(stage.writes) if name in columns}
        facts = {name: self.artifacts[path] for name, path in paths.items() if path in self.artifacts}
        return json.dumps(facts, sort_keys=True) if facts else None

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]], writes: Mapping[str, Any]) -> Outcome:
        """The outcome that was committed as these rows, whose `started_at` is in microseconds since 1970."""
        row = rows[0]
        outcome = cls(
            status=row["status"],
            key=row["key"],
            reason=row["reason"] or "",
            error=row["error"] or "",
            attempt=row["attempt"],
            started_at=row["started_at"] / 1e6,
            seconds=row["seconds"],
            cpu_seconds=row["cpu_seconds"],
            worker=row["worker"],
            model=row["model"] or "",
            notes=json.loads(row.get("notes") or "{}"),
        )
        if row["status"] != "ok":
            outcome.facts = decode(row, writes)
            return outcome
        for row in rows:
            suffix = source_id = ""
            if row["item_id"] != row["entered_id"]:
                extends = row["item_id"].startswith(row["entered_id"] + "/")
                suffix = row["item_id"][len(row["entered_id"]) + 1 :] if extends else row["item_id"]
                source_id = "" if extends else row["source_id"]
            outcome.children.append(Child(suffix, decode(row, writes), source_id))
            facts = json.loads(row.get("artifacts") or "{}")
            outcome.artifacts |= {row[name]: known for name, known in facts.items() if row.get(name)}
        return outcome

    # --- as a record beside the artifacts ---

    def save(self, store: Store) -> None:
        """Write the outcome record."""
        record = vars(self) | {"children": [vars(child) for child in self.children]}
        store.write(record_path(self.key), _to_json(record | {_SEAL: _seal(record)}))

    @classmethod
    def load(cls, store: Store, key: str) -> Outcome | None:
        """Read the outcome record of a key; None where there is none, a damaged one, or one of another release."""
        try:
            record = json.loads(store.read(record_path(key)))
            if record.pop(_SEAL, None) not in (None, _seal(record)) or record["key"] != key:
                return None
            return cls(**record | {"children": [Child(**child) for child in record["children"]]})
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def files(self, stage: Stage) -> list[str]:
        """Relative paths of the files that the outcome names, sorted."""
        kinds = _file_columns(stage.writes)
        return sorted({path for child in self.children for name in kinds if (path := child.columns.get(name))})

    def damaged(self, stage: Stage, store: Store) -> dict[str, str]:
        """Which of the outcome's files are gone or not as they were written, by path, and what is wrong with each."""
        found = {path: wrong_content(store, path, self.artifacts.get(path)) for path in self.files(stage)}
        return {path: why for path, why in found.items() if why}


def _file_columns(writes: Mapping[str, Any]) -> list[str]:
    return [name for name, kind in writes.items() if isinstance(kind, Artifact)]


def _to_json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, sort_keys=True).encode()


def _seal(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record: one changed bit in it, and it is not used."""
    return hashlib.sha256(_to_json(record)).hexdigest()


def record_path(key: str) -> str:
    """Return the path of the outcome record of a key in the run folder."""
    return f"artifacts/outcome/{key[:2]}/{key}.json"
