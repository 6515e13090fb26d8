"""Where a close-up looks: which runs of neighbouring frames, and which part of the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ffpdata.media.masks import bounding_boxes
from ffpdata.models.vlm.frame_choice import frame_numbers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ffpdata.models.vlm.settings import Closeup

    Masks = NDArray[np.bool_]

LEAST_SIDE = 224
"""Shortest side of a crop in pixels, where the picture has as many: a small object is judged by what surrounds it."""


@dataclass(frozen=True)
class Run:
    """Neighbouring frames and the window of the picture that is shown of each.

    Attributes:
        numbers: frame numbers, from 0, without gaps.
        box: x0, y0, x1, y1 in pixels of the clip, half-open; the same in every frame, so that what moves in it moved.
    """

    numbers: tuple[int, ...]
    box: tuple[int, int, int, int]


def find_runs(masks: Masks, closeup: Closeup, multiple: int) -> list[Run]:
    """Choose the runs of a close-up and their windows, all of one size.

    Args:
        masks: bool (T, H, W), where to look.
        closeup: number and length of the runs, and the margin around the masks.
        multiple: sides of the windows are multiples of it, where the picture is as large.

    Returns:
        The runs in order of time; none where all masks are empty. There are fewer where few frames have a mask; runs of
        a short clip overlap.
    """
    count, height, width = masks.shape
    boxes = bounding_boxes(masks)
    filled = boxes[:, 2] > 0
    length = min(closeup.frames, count)
    starts = [start for start in range(count - length + 1) if filled[start : start + length].any()]
    if not starts:
        return []
    found = []
    for place in frame_numbers(len(starts), closeup.runs):
        numbers = tuple(range(starts[place], starts[place] + length))
        own = boxes[list(numbers)][filled[list(numbers)]]
        found.append((numbers, (*own[:, :2].min(0).tolist(), *own[:, 2:].max(0).tolist())))
    wide = _side(max(x1 - x0 for _, (x0, _, x1, _) in found), closeup.margin, width, multiple)
    high = _side(max(y1 - y0 for _, (_, y0, _, y1) in found), closeup.margin, height, multiple)
    runs = []
    for numbers, (x0, y0, x1, y1) in found:
        left, top = _start(x0, x1, wide, width), _start(y0, y1, high, height)
        runs.append(Run(numbers, (left, top, left + wide, top + high)))
    return runs


def _side(side: int, margin: float, limit: int, multiple: int) -> int:
    """Return a side with its margins, rounded up to a multiple and at most the largest multiple in the picture."""
    wanted = max(side * (1 + 2 * margin), LEAST_SIDE)
    return min(math.ceil(wanted / multiple) * multiple, limit // multiple * multiple or limit)


def _start(first: int, last: int, side: int, limit: int) -> int:
    """Return where a window of `side` pixels begins whose middle is that of `first`..`last`, moved into the picture."""
    return min(max(0, (first + last - side) // 2), limit - side)
