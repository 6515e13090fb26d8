"""Caps: of pairs with the same task, object, style, motion or aspect only so many are kept, the best ones."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

MOTION_BANDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Edges of the bands of `motion`, grey levels between neighbouring frames: each is twice as fast as the one before."""


def _motion(pair: Mapping[str, Any]) -> str | None:
    motion = pair.get("motion")
    if motion is None:
        return None
    band = bisect_right(MOTION_BANDS, motion)
    low, high = ("0", *map(str, MOTION_BANDS))[band], (*map(str, MOTION_BANDS), "")[band]
    return f"{low} to {high}" if high else f"{low} and more"


def _aspect(pair: Mapping[str, Any]) -> str | None:
    width, height = pair.get("width"), pair.get("height")
    if not width or not height:
        return None
    return "square" if width == height else "landscape" if width > height else "portrait"


VALUES: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    "task": lambda pair: pair.get("task"),
    "object": lambda pair: pair.get("object"),
    "style": lambda pair: pair.get("style_id"),
    "motion": _motion,
    "aspect": _aspect,
}
"""What each cap counts by; a pair without a value counts for none."""

COLUMNS = ("motion", "width", "height")
"""Columns that these need beside those that curation reads anyway."""


def over_caps(pairs: Sequence[Mapping[str, Any]], order: Sequence[int], caps: Mapping[str, int]) -> dict[int, str]:
    """Return position to the reason, in words, of every pair that is one too many.

    Args:
        pairs: the finished pairs.
        order: positions of those that would be kept, from the best to the worst.
        caps: name in `VALUES` to the most pairs with one value.
    """
    kept: Counter[tuple[str, Any]] = Counter()
    over: dict[int, str] = {}
    for position in order if caps else ():
        mine = [(name, value) for name in caps if (value := VALUES[name](pairs[position])) is not None]
        full = next(((name, value) for name, value in mine if kept[name, value] >= caps[name]), None)
        if full:
            over[position] = f"{full[0]} {full[1]!r} has its {caps[full[0]]} pairs, all of them better"
        else:
            kept.update(mine)
    return over
