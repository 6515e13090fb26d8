"""YAML text into plain data, within limits: files and options may come from anybody.

A few lines of YAML can stand for more values than fit into memory, by aliases of aliases; deep nesting ends in a
RecursionError, or kills the process in the C parser; a text that looks like a number or a date and is none raises a
ValueError. Here all of it is a `WrongYamlError` in time that grows with the length of the text.
"""

from __future__ import annotations

from collections.abc import Iterator
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
"""Characters from which on the fast loader is taken: its messages are terser."""


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
    _check(text, limit)
    try:
        return list(yaml.load_all(text, Loader=_loader(text)))  # noqa: S506 - both are safe loaders
    except (yaml.YAMLError, ValueError, RecursionError) as err:
        raise WrongYamlError(_why(err)) from err


def load_with_marks(text: str) -> tuple[Any, yaml.Node | None]:
    """Return the data of a text and its nodes, which know their lines; raises WrongYamlError."""
    data = load(text)
    return data, yaml.compose(text, Loader=_loader(text))


def _loader(text: str | bytes) -> Any:
    return _FAST if len(text) > _LONG else yaml.SafeLoader


def _why(err: Exception) -> str:
    return str(err) if isinstance(err, yaml.YAMLError) else "a number in it is too long, or a date or time is none"


def _check(text: str | bytes, limit: int) -> None:
    """Look at a text without making data of it: its depth, and how much it stands for."""
    sizes: dict[str, int] = {}
    open_: list[str | None] = []
    counts = [0]
    try:
        for event in _events(text):
            anchor = getattr(event, "anchor", None)
            if isinstance(event, yaml.DocumentStartEvent):
                sizes, counts = {}, [0]
            elif isinstance(event, yaml.AliasEvent):
                if anchor in open_:
                    raise WrongYamlError(f"{_place(event)}: *{anchor} stands within itself")
                counts[-1] += sizes.get(event.anchor, 1)
            elif isinstance(event, yaml.ScalarEvent):
                counts[-1] += 1
                if anchor:
                    sizes[anchor] = 1
            elif isinstance(event, yaml.CollectionStartEvent):
                open_.append(anchor)
                counts.append(1)
                if len(open_) > MAX_DEPTH:
                    raise WrongYamlError(f"{_place(event)}: more than {MAX_DEPTH} mappings and lists lie in each other")
            elif isinstance(event, yaml.CollectionEndEvent):
                done, count = open_.pop(), counts.pop()
                counts[-1] += count
                if done:
                    sizes[done] = count
            if counts[-1] > limit:
                raise WrongYamlError(f"{_place(event)}: with its aliases it stands for more than {limit} values")
    except (yaml.YAMLError, ValueError) as err:
        if isinstance(err, WrongYamlError):
            raise
        raise WrongYamlError(_why(err)) from err


def _events(text: str | bytes) -> Iterator[Any]:
    yield from yaml.parse(text, Loader=_loader(text))


def _place(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1}"
