"""The better of an edit's variants: the same thing done to the same clip in several ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

RANKING = ("score", "screen_score", "psnr_outside")
"""Columns by which one pair is better than another, the most telling first, higher is better. The item id decides
last, so that the choice is the same on every machine."""


def rank(pairs: Sequence[Mapping[str, Any]]) -> list[int]:
    """Positions of the pairs from the best to the worst."""

    def badness(position: int) -> tuple[Any, ...]:
        pair = pairs[position]
        values = (pair.get(name) for name in RANKING)
        return (*(float("inf") if v is None else -v for v in values), pair["item_id"], pair["track"])

    return sorted(range(len(pairs)), key=badness)


def edit_of(pair: Mapping[str, Any]) -> tuple[Any, ...]:
    """What is done to which clip; pairs that agree in this are variants of each other.

    Style references are different edits: the reference belongs to what is done.
    """
    return (pair["track"], pair["parent_id"], pair.get("task"), pair.get("object"), pair.get("style_id"))


def worse_variants(pairs: Sequence[Mapping[str, Any]], order: Sequence[int]) -> dict[int, int]:
    """Position of every variant that is not the best of its edit, to the position of the best.

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
