"""What a training looks like: the contact sheet of its validation and the curve of its losses."""

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

    from ffpdata.refine.job import Sample

    Image = NDArray[np.uint8]

COLUMNS = ("source", "region", "accepted", "before", "after")
MOMENTS = (0.0, 0.5, 1.0)
"""Places in a clip that are shown."""

CELL = 256
"""Width of a picture; higher ones than wide are as high as this."""

GAP, HEADER, LINE = 4, 28, 22
JPEG_QUALITY = 88
INK, PAPER = (40, 40, 40), 255
FONT, FONT_SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.5


def contact_sheet(rows: Sequence[tuple[Sample, Path, Path]]) -> bytes:
    """Draw held-out samples: source, region, accepted target, before and after, a few moments below each other.

    Args:
        rows: sample, the remover's clip before, and after.

    Returns:
        A JPEG.
    """
    width = len(COLUMNS) * (CELL + GAP) + GAP
    header = np.full((HEADER, width, 3), PAPER, np.uint8)
    for number, name in enumerate(COLUMNS):
        _write(header, name, GAP + number * (CELL + GAP), HEADER - 9)
    sheet = np.concatenate([header, *(_row(*row, width) for row in rows)])
    _, data = cv2.imencode(".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes()


def _row(sample: Sample, before: Path, after: Path, width: int) -> Image:
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
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
            line[: size[1], left : left + size[0]] = cv2.resize(frame, size, interpolation=how)
        parts.append(line)
    return np.concatenate(parts)


def _write(image: Image, text: str, x: int, y: int) -> None:
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(image, plain, (x, y), FONT, FONT_SCALE, INK, 1, cv2.LINE_AA)


WIDE, HIGH, LEFT, BELOW, ABOVE = 720, 300, 60, 34, 26
SMOOTHED = 25
"""Steps of the moving mean: one loss has a timestep of its own and says little."""


def loss_curve(losses: Sequence[tuple[int, float]], held_out: Sequence[tuple[int, float]]) -> str:
    """Draw losses over steps as SVG: each, their moving mean, and the held-out loss."""
    values = [loss for _, loss in (*losses, *held_out)]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    last = max(step for step, _ in (*losses, *held_out)) or 1

    def place(step: float, loss: float) -> str:
        x = LEFT + step / last * (WIDE - LEFT - 12)
        return f"{x:.1f},{ABOVE + (high - loss) / span * (HIGH - ABOVE - BELOW):.1f}"

    def line(points: Sequence[tuple[float, float]], style: str) -> str:
        return f'<polyline fill="none" {style} points="{" ".join(place(*point) for point in points)}"/>'

    only = np.array([loss for _, loss in losses])
    mean = [float(only[max(0, end - SMOOTHED) : end].mean()) for end in range(1, len(only) + 1)]
    smooth = [(step, value) for (step, _), value in zip(losses, mean, strict=True)]
    base = HIGH - BELOW
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDE}" height="{HIGH}" fill="#fff"/>',
        f'<path d="M{LEFT} {ABOVE}V{base}H{WIDE - 12}" fill="none" stroke="#999"/>',
        f'<text x="{LEFT - 6}" y="{ABOVE + 4}" text-anchor="end">{high:.3g}</text>',
        f'<text x="{LEFT - 6}" y="{base + 4}" text-anchor="end">{low:.3g}</text>',
        f'<text x="{LEFT}" y="{HIGH - 12}">0</text>',
        f'<text x="{WIDE - 12}" y="{HIGH - 12}" text-anchor="end">{last} steps</text>',
        line(losses, 'stroke="#9bb8d3" stroke-width="1"'),
        line(smooth, 'stroke="#1f5f99" stroke-width="2"'),
        f'<text x="{LEFT + 12}" y="16" fill="#1f5f99">training loss, mean of {SMOOTHED} steps</text>',
    ]
    if held_out:
        parts.append(line(held_out, 'stroke="#c4501b" stroke-width="2"'))
        parts.append(f'<text x="{LEFT + 260}" y="16" fill="#c4501b">held-out loss</text>')
        parts += [
            '<circle cx="{}" cy="{}" r="3" fill="#c4501b"/>'.format(*place(*point).split(",")) for point in held_out
        ]
    return "\n".join([*parts, "</svg>"])
