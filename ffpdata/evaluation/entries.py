"""What a reader of a benchmark finds: an entry per method and item, and which items were chosen of how many."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ffpdata.core.errors import UsageError
from ffpdata.core.file_names import is_text, printable, text_of
from ffpdata.inputs.locations import location_of
from ffpdata.training.atomic_files import write_atomically


@dataclass(frozen=True)
class Entry:
    """One output of one method, and what it was made of.

    Attributes:
        method, item: names; both together are unique.
        target: where the output is expected, whether it is there or not.
        source: the clip before the edit; None where the benchmark has none.
        edited_first_frame: the image that the method was given; None where it was given none.
        category: of the item in the benchmark.
        instruction: what to change.
        target_prompt: what the edited clip is to show.
    """

    method: str
    item: str
    target: Path
    source: Path | None = None
    edited_first_frame: Path | None = None
    category: str = ""
    instruction: str = ""
    target_prompt: str = ""


@dataclass(frozen=True)
class Choice:
    """The entries of a benchmark, and how they were chosen.

    Attributes:
        entries: in the benchmark's order, the methods one after the other.
        rule: how the items were chosen, in words.
        items: number of items chosen.
        of: number of items of the benchmark.
        left_out: category to the number of its items that were left out.
        notes: what else a reader of the numbers must know.
    """

    entries: list[Entry]
    rule: str
    items: int
    of: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in order."""
        return list(dict.fromkeys(entry.method for entry in self.entries))

    @property
    def subset(self) -> str:
        """Which of the benchmark's items, in the words of the printed tables."""
        return "all pairs" if self.items == self.of else f"{self.items} of {self.of} items, {self.rule}"

    def told(self) -> str:
        """Say in one line what is evaluated."""
        return f"{self.items} of {self.of} items ({self.rule}), methods: {', '.join(self.methods)}"


def write_entries(path: Path, entries: Sequence[Entry]) -> None:
    """Write the table of which an evaluation is run: JSON lines, with absolute paths.

    Fingerprints of the files beside the output stand in it, so that a changed one is noticed at the next call.

    Raises:
        UsageError: there is no entry, two have one method and item, or a name is not UTF-8.
    """
    if not entries:
        raise UsageError("there is nothing to evaluate: no item was chosen")
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        if (entry.method, entry.item) in seen:
            raise UsageError(f"item {entry.item!r} of {entry.method!r} is there twice: give each one row")
        seen.add((entry.method, entry.item))
        if not is_text(entry.method + entry.item):
            raise UsageError(f"the name {printable(entry.method + ' ' + entry.item)!r} is not UTF-8: rename the folder")
    beside = [text_of(str(_absolute(one))) for e in entries for one in (e.source, e.edited_first_frame) if one]
    found = location_of("/").fingerprints(beside)
    lines = [json.dumps(_row(entry, found)) + "\n" for entry in entries]
    write_atomically(path, "".join(lines).encode())


def chosen_ids(file: Path, known: Iterable[str]) -> list[str]:
    """Read a file with the id of an item on each line; `#` begins a comment.

    Raises:
        UsageError: it cannot be read, is empty, or names an item that the benchmark has not.
    """
    try:
        lines = [line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as err:
        raise UsageError(f"--ids {file}: cannot be read ({err})") from err
    ids = list(dict.fromkeys(line for line in lines if line))
    if not ids:
        raise UsageError(f"--ids {file}: no id in it: write one a line")
    if unknown := set(ids) - set(known):
        raise UsageError(f"--ids {file}: the benchmark has no item {min(unknown)!r}")
    return ids


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _row(entry: Entry, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {"path": text_of(str(_absolute(entry.target))), "method": entry.method, "item": entry.item}
    row |= {"category": entry.category, "instruction": entry.instruction, "target_prompt": entry.target_prompt}
    for name, path in (("source", entry.source), ("first_frame", entry.edited_first_frame)):
        if path:
            text = text_of(str(_absolute(path)))
            row |= {name: text, f"{name}_fingerprint": fingerprints[text]}
    return {name: value for name, value in row.items() if value != ""}
