"""Words of messages that depend on a number."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 shard`, `15 pairs`. Nouns whose plural is not made by an s are no use here."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
