"""Chooses the best of an edit's variants: the same edit of the same clip, made in several ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

RANKING = ("score", "screen_score", "psnr_outside")
"""Columns that rank pairs, the most important first; higher is better. The item id decides last, so that the choice is
the same on every machine."""


def rank(pairs: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the positions of the pairs from the best to the worst."""

    def sort_key(position: int) -> tuple[Any, ...]:
        pair = pairs[position]
        values = (pair.get(name) for name in RANKING)
        return (*(float("inf") if v is None else -v for v in values), pair["item_id"], pair["track"])

    return sorted(range(len(pairs)), key=sort_key)


def edit_of(pair: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what identifies the edit of a pair; pairs of the same edit are variants of each other.

    Different style references are different edits.
    """
    return (pair["track"], pair["parent_id"], pair.get("task"), pair.get("object"), pair.get("style_id"))


def worse_variants(pairs: Sequence[Mapping[str, Any]], order: Sequence[int]) -> dict[int, int]:
    """Return the position of every variant that is not the best of its edit, to the position of the best.

    Args:
        pairs: the finished pairs.
        order: their positions from the best to the worst.
    """
    best: dict[tuple[Any, ...], int] = {}
    worse: dict[int, int] = {}
    for position in order:
        winner = best.setdefault(edit_of(pairs[position]), position)
        if winner != position:
            worse[position] = winner
    return worse
