"""Black bars: where ffmpeg's cropdetect sees black borders, and which of them are bars to cut off."""

from __future__ import annotations

import re
from typing import NamedTuple

from ffpdata.media.ffmpeg_filters import Crop
from ffpdata.media.probe import Probe

MIN_BAR = 0.01
"""Bars thinner than this part of the picture stay."""
BAR_SYMMETRY = 0.02
"""Bars come in equal pairs: a dark floor is no letterbox. Allowed difference, as a part of the picture."""

_CROPDETECT_LINE = re.compile(
    rb"^\[Parsed_cropdetect_\d+ @ 0x[0-9a-f]+\] \[info\] x1:(-?\d+) x2:(-?\d+) y1:(-?\d+) y2:(-?\d+) .* t:(-?[0-9.]+)",
    re.MULTILINE,
)


class CroppedFrame(NamedTuple):
    """One source frame, as ffmpeg's cropdetect logs it.

    Attributes:
        x1, x2, y1, y2: first and last column and row that are not black in this or any earlier frame, pixels.
        time: presentation time, seconds from the file's first frame.
    """

    x1: int
    x2: int
    y1: int
    y2: int
    time: float


def cropped_frames(log: bytes) -> list[CroppedFrame]:
    """Return what cropdetect wrote to ffmpeg's log, frame by frame."""
    return [
        CroppedFrame(int(x1), int(x2), int(y1), int(y2), float(t))
        for x1, x2, y1, y2, t in _CROPDETECT_LINE.findall(log)
    ]


def inside_bars(source_frames: list[CroppedFrame], probe: Probe) -> Crop | None:
    """Return the picture inside the black bars that every frame has, in displayed pixels; None without bars.

    cropdetect accumulates: the last entry is the smallest rectangle outside which all frames are black.
    """
    if not source_frames:
        return None
    x1, x2, y1, y2 = source_frames[-1][:4]
    wide, tall = (
        (1.0, probe.sar) if probe.rotation % 180 else (probe.sar, 1.0)
    )  # cropdetect runs before pixels are made square
    across = _between_bars(x1 * wide, probe.width - (x2 + 1) * wide, probe.width) if x2 > x1 else None
    down = _between_bars(y1 * tall, probe.height - (y2 + 1) * tall, probe.height) if y2 > y1 else None
    if not across and not down:
        return None
    x, width = across or (0, probe.width)
    y, height = down or (0, probe.height)
    return Crop(width, height, x, y)


def _between_bars(before: float, after: float, length: int) -> tuple[int, int] | None:
    """Return (start, length) between two bars; None where they are too thin, unequal, or leave less than a quarter."""
    if min(before, after) < MIN_BAR * length or abs(before - after) > BAR_SYMMETRY * length:
        return None
    start = int(before / 2 + 1.999) * 2  # one or two lines further in: the edge of a bar is blurred
    end = int((length - after) / 2 - 0.999) * 2
    return (start, end - start) if end - start >= length / 4 else None
