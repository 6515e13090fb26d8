"""YAML text into plain data, within limits: files and options may come from anybody.

A few lines of YAML can stand for more values than fit into memory, by aliases of aliases; deep nesting ends in a
RecursionError, or kills the process in the C parser; a text that looks like a number or a date and is none raises a
ValueError. Here all of it is a `WrongYamlError` in time that grows with the length of the text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1 << 20
"""Of a file that a person writes; the longest of ours has 10 KB."""

MAX_DEPTH = 40
"""Levels of mappings and lists in each other."""

MAX_VALUES = 200_000
"""Values of a document, with what an alias stands for counted each time."""

_FAST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LONG = 20_000
"""Characters up to which the slow loader says what is wrong, in better words."""


class WrongYamlError(ValueError):
    """A text that is no YAML, or too large or too deep; the message says which."""


def read_text(path: Path) -> str:
    """Read a file of YAML.

    Raises:
        WrongYamlError: it is no text, or far too long.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise WrongYamlError(f"the file is longer than {MAX_BYTES >> 10} KB")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as err:
        raise WrongYamlError(f"byte {err.start} is no UTF-8: is it a text?") from None


def load(text: str) -> Any:
    """Return the data of a text with one document; raises WrongYamlError."""
    documents = load_all(text)
    if len(documents) > 1:
        raise WrongYamlError(f"one document is expected, it has {len(documents)} with --- between them")
    return documents[0] if documents else None


def load_all(text: str | bytes, limit: int = MAX_VALUES) -> list[Any]:
    """Return the data of each document of a text; raises WrongYamlError.

    Args:
        text: of all documents.
        limit: values of each of them.
    """
    try:
        return _documents(text, limit, _FAST)
    except WrongYamlError:
        if isinstance(text, bytes) or len(text) > _LONG:
            raise
        return _documents(text, limit, yaml.SafeLoader)


def _documents(text: str | bytes, limit: int, loader: Any) -> list[Any]:
    _check(text, limit, loader)
    try:
        return list(yaml.load_all(text, Loader=loader))
    except (yaml.YAMLError, ValueError, RecursionError) as err:
        raise WrongYamlError(_why(err)) from err


def load_with_marks(text: str) -> tuple[Any, yaml.Node | None]:
    """Return the data of a text and its nodes, which know their lines; raises WrongYamlError."""
    data = load(text)
    return data, yaml.compose(text, Loader=_FAST)


def _why(err: Exception) -> str:
    return str(err) if isinstance(err, yaml.YAMLError) else "a number in it is too long, or a date or time is none"


def _check(text: str | bytes, limit: int, loader: Any) -> None:
    """Look at a text without making data of it: its depth, and how much it stands for."""
    counter = _Counter()
    try:
        for event in yaml.parse(text, Loader=loader):
            counter.take(event)
            if len(counter.open) > MAX_DEPTH:
                raise _wrong(event, f"more than {MAX_DEPTH} mappings and lists lie in each other")
            if counter.counts[-1] > limit:
                raise _wrong(event, f"with its aliases it stands for more than {limit} values")
    except WrongYamlError:
        raise
    except (yaml.YAMLError, ValueError) as err:
        raise WrongYamlError(_why(err)) from err


class _Counter:
    """What the events of a parser have opened, and the number of values in each."""

    def __init__(self) -> None:
        self.open: list[str | None] = []
        """Anchors of the mappings and lists that are open."""
        self.counts = [0]
        """Values so far in the document, and in each of them."""
        self._sizes: dict[str | None, int] = {}

    def take(self, event: yaml.Event) -> None:
        """Count one event."""
        anchor: str | None = getattr(event, "anchor", None)
        if isinstance(event, yaml.DocumentStartEvent):
            self.counts, self._sizes = [0], {}
        elif isinstance(event, yaml.AliasEvent):
            if anchor in self.open:
                raise _wrong(event, f"*{anchor} stands within itself")
            self.counts[-1] += self._sizes.get(anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            self.counts[-1] += 1
            self._sizes[anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            self.open.append(anchor)
            self.counts.append(1)
        elif isinstance(event, yaml.CollectionEndEvent):
            count = self.counts.pop()
            self.counts[-1] += count
            self._sizes[self.open.pop()] = count


def _wrong(event: yaml.Event, what: str) -> WrongYamlError:
    place = f"line {event.start_mark.line + 1}: " if event.start_mark else ""
    return WrongYamlError(f"{place}{what}")
