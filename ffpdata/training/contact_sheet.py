"""The contact sheet of a training: held-out samples as the model draws them before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.media.codec import read_video

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.training.sample import Sample

    Image = NDArray[np.uint8]

DRAWN = ("before", "after")
MOMENTS = (0.0, 0.5, 1.0)
"""Positions in a clip that are shown: 0 is its first frame, 1 its last."""

CELL = 256
"""Pixels of the longer side of a picture."""

GAP, HEADER, LINE = 4, 28, 22
JPEG_QUALITY = 88
INK, PAPER = (40, 40, 40), 255
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5


def contact_sheet(rows: Sequence[tuple[Sample, Path, Path]]) -> bytes:
    """Draw held-out samples in rows: the sample's own clips, before and after, at each of `MOMENTS`.

    Args:
        rows: the sample, and the files of the model's clip before and after the training. All samples have the same
            columns.

    Returns:
        The bytes of a JPEG.
    """
    shown = [_clips(*row) for row in rows]
    columns = list(shown[0])
    width = len(columns) * (CELL + GAP) + GAP
    header = np.full((HEADER, width, 3), PAPER, np.uint8)
    for number, name in enumerate(columns):
        _write(header, name, GAP + number * (CELL + GAP), HEADER - 9)
    parts = [_row(sample.label, list(clips.values()), width) for (sample, _, _), clips in zip(rows, shown, strict=True)]
    sheet = np.concatenate([header, *parts])
    _, data = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()


def _clips(sample: Sample, *drawn: Path) -> dict[str, Image]:
    """Clips by column, each reduced to the frames that are shown."""
    clips = dict(sample.shown()) | {name: read_video(path) for name, path in zip(DRAWN, drawn, strict=True)}
    return {
        name: np.stack([clip[round(moment * (len(clip) - 1))] for moment in MOMENTS]) for name, clip in clips.items()
    }


def _row(text: str, clips: Sequence[Image], width: int) -> Image:
    height, wide = clips[0].shape[1:3]
    scale = CELL / max(height, wide)
    size = max(1, round(wide * scale)), max(1, round(height * scale))
    label = np.full((LINE, width, 3), PAPER, np.uint8)
    _write(label, text[: width // 9], GAP, LINE - 7)
    parts = [label]
    for moment in range(len(MOMENTS)):
        line = np.full((size[1] + GAP, width, 3), PAPER, np.uint8)
        for number, clip in enumerate(clips):
            left = GAP + number * (CELL + GAP)
            frame = clip[moment]
            interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
            line[: size[1], left : left + size[0]] = cv2.resize(frame, size, interpolation=interpolation)
        parts.append(line)
    return np.concatenate(parts)


def _write(image: Image, text: str, x: int, y: int) -> None:
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(image, plain, (x, y), FONT, FONT_SCALE, INK, 1, cv2.LINE_AA)
