"""The contact sheet of a training: held-out samples as the remover draws them before and after."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.media.codec import read_masks, read_video
from ffpdata.media.conditioning import blank

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.training.removal_sample import RemovalSample

    Image = NDArray[np.uint8]

COLUMNS = ("source", "region", "accepted", "before", "after")
MOMENTS = (0.0, 0.5, 1.0)
"""Positions in a clip that are shown: 0 is its first frame, 1 its last."""

CELL = 256
"""Pixels of the longer side of a picture."""

GAP, HEADER, LINE = 4, 28, 22
JPEG_QUALITY = 88
INK, PAPER = (40, 40, 40), 255
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5


def contact_sheet(rows: Sequence[tuple[RemovalSample, Path, Path]]) -> bytes:
    """Draw held-out samples in rows: source, region, accepted target, before and after, at each of `MOMENTS`.

    Args:
        rows: the sample, and the files of the remover's clip before and after the training.

    Returns:
        The bytes of a JPEG.
    """
    width = len(COLUMNS) * (CELL + GAP) + GAP
    header = np.full((HEADER, width, 3), PAPER, np.uint8)
    for number, name in enumerate(COLUMNS):
        _write(header, name, GAP + number * (CELL + GAP), HEADER - 9)
    sheet = np.concatenate([header, *(_row(*row, width) for row in rows)])
    _, data = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()


def _row(sample: RemovalSample, before: Path, after: Path, width: int) -> Image:
    source = read_video(sample.source_video)
    region = blank(source, read_masks(sample.condition_mask))
    clips = [source, region, *(read_video(path) for path in (sample.target_video, before, after))]
    height, wide = source.shape[1:3]
    scale = CELL / max(height, wide)
    size = max(1, round(wide * scale)), max(1, round(height * scale))
    label = np.full((LINE, width, 3), PAPER, np.uint8)
    _write(label, f"{sample.item_id}: {sample.prompt}"[: width // 9], GAP, LINE - 7)
    parts = [label]
    for moment in MOMENTS:
        line = np.full((size[1] + GAP, width, 3), PAPER, np.uint8)
        for number, clip in enumerate(clips):
            left = GAP + number * (CELL + GAP)
            frame = clip[round(moment * (len(clip) - 1))]
            interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
            line[: size[1], left : left + size[0]] = cv2.resize(frame, size, interpolation=interpolation)
        parts.append(line)
    return np.concatenate(parts)


def _write(image: Image, text: str, x: int, y: int) -> None:
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(image, plain, (x, y), FONT, FONT_SCALE, INK, 1, cv2.LINE_AA)
