"""Which frames of a clip are sent, how large, and at what rate."""

from __future__ import annotations

import math
from collections.abc import Sequence


def frame_numbers(length: int, count: int) -> list[int]:
    """Return `count` frame numbers spread evenly over 0..length-1, both ends included; all of a shorter clip.

    An odd `count` of three or more holds the middle frame, too, where `length` is odd.
    """
    if count >= length:
        return list(range(length))
    if count == 1:
        return [0]
    return [round(i * (length - 1) / (count - 1)) for i in range(count)]


def shown_rate(numbers: Sequence[int], fps: float) -> float:
    """Return the rate of evenly spaced frames of a clip, frames per second; that of the clip for a single frame.

    Args:
        numbers: of the frames, ascending.
        fps: rate of the clip.
    """
    if len(numbers) < 2:
        return fps
    return fps * (len(numbers) - 1) / (numbers[-1] - numbers[0])


def scaled_size(width: int, height: int, pixels: int, multiple: int) -> tuple[int, int]:
    """Return width and height of a scaled frame: similar shape, at most `pixels` in area, multiples of `multiple`.

    Frames are not enlarged beyond the next multiple; a side is at least one multiple long.
    """
    scale = min(1.0, math.sqrt(pixels / (width * height))) / multiple
    wide, high = (({max(1, math.floor(side * scale)), max(1, math.ceil(side * scale))}) for side in (width, height))
    least = (max(1, math.floor(width * scale)), max(1, math.floor(height * scale)))
    fitting = [(w, h) for w in wide for h in high if w * h * multiple**2 <= pixels] or [least]
    # The smallest change of shape, then the larger area.
    w, h = min(fitting, key=lambda sides: (abs(math.log(sides[0] * height / (sides[1] * width))), -sides[0] * sides[1]))
    return w * multiple, h * multiple
