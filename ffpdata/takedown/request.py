"""What a takedown is asked for: source ids, items, paths, or a file that lists them; and what it says at its end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ffpdata.core.errors import UsageError, nearest, shown
from ffpdata.core.keys import is_of, source_id
from ffpdata.core.wording import counted
from ffpdata.manifests.tombstones import SOURCE_ID, Tombstone

Known = Iterable[tuple[str, str]]
"""Names of what is in a folder, items and paths, and the source id of each."""


@dataclass
class Takedown:
    """What a takedown did.

    Attributes:
        sources: source id of each that was taken down now.
        known: those of the request that had been taken down before.
        pairs: accepted pairs that are gone.
        files: files that were deleted, or shards that were written anew.
        notes: what a person should know.
    """

    sources: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    pairs: int = 0
    files: int = 0
    notes: list[str] = field(default_factory=list)

    def lines(self, files: str) -> list[str]:
        """The lines of the terminal; `files` is what they are called."""
        first = f"{counted(len(self.sources), 'source')} taken down"
        first += f" ({len(self.known)} of the request before)" if self.known else ""
        return [f"{first}: {counted(self.pairs, 'pair')}, {counted(self.files, files)}", *self.notes]


def now() -> str:
    """The time as tombstones have it."""
    return datetime.now(UTC).isoformat("T", "seconds")


def listed(path: Path) -> list[str]:
    """Read a request from a file: one name a line, or the log of another takedown.

    Raises:
        UsageError: it cannot be read, or names nothing.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        names = [
            str(Tombstone(**json.loads(line)).source_id) if line.startswith("{") else line
            for line in lines
            if line and not line.startswith("#")
        ]
    except (OSError, ValueError, TypeError) as err:
        raise UsageError(f"--from {path}: cannot be read ({err}): one source id, item or path a line") from err
    if not names:
        raise UsageError(f"--from {path}: it names no source")
    return names


def resolve(asked: Sequence[str], known: Callable[[], Known], where: str) -> dict[str, str]:
    """Return the source id that each name of a request means, to the name.

    A name is a source id, an item (its whole source is meant), a path as the input or the table gave it, or a file of
    this machine with the source's bytes. A source id needs not be known: it is refused when it comes.

    Args:
        asked: the names.
        known: lists what is in the folder; called where a name is no source id.
        where: the folder, for messages.

    Raises:
        UsageError: a name means nothing here.
    """
    found: dict[str, str] = {}
    names: dict[str, str] = {}
    for name in asked:
        if not SOURCE_ID.fullmatch(name) and not names:
            names = dict(known())
        source = name if SOURCE_ID.fullmatch(name) else names.get(name) or _ancestor(name, names) or _hashed(name)
        if not source:
            raise UsageError(
                f"--source {shown(name)}: {where} has no such source, item or path{nearest(name, list(names)[:1000])}"
            )
        found.setdefault(source, name)
    return found


def _ancestor(name: str, names: dict[str, str]) -> str:
    """The source of an item of which only an ancestor is known."""
    parts = name.split("/")
    known = ("/".join(parts[:count]) for count in range(len(parts) - 1, 0, -1))
    return next((names[item] for item in known if item in names and is_of(name, item)), "")


def _hashed(name: str) -> str:
    """The source id of a file of this machine; empty where there is none."""
    path = Path(name)
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return source_id(stream)
