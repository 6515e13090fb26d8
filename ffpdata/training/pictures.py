"""What a training looks like: the contact sheet of its validation and the curve of its losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.media.codec import read_masks, read_video
from ffpdata.media.conditioning import blank
from ffpdata.refine.round_charts import curve

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.training.job import Sample

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


WIDE, HIGH, LEFT, RIGHT, BELOW, ABOVE = 720, 300, 60, 12, 34, 26
"""Steps of the moving mean: one loss has a timestep of its own and says little."""


def loss_curve(losses: Sequence[tuple[int, float]], held_out: Sequence[tuple[int, float]]) -> str:
    """Draw losses over steps as SVG: each, their running mean, and the held-out loss; as the round's report does."""
    drawn = curve(
        [*((step, loss, None) for step, loss in losses), *((step, math.nan, loss) for step, loss in held_out)]
    )
    body = [f'<rect width="{WIDE}" height="{HIGH}" fill="#fff"/>']
    if drawn:
        base, end = HIGH - BELOW, WIDE - RIGHT
        scale = f"translate({LEFT} {ABOVE}) scale({(end - LEFT) / 1000:.4f} {(base - ABOVE) / 1000:.4f})"
        plain = 'vector-effect="non-scaling-stroke"'
        lines = [(drawn.raw, "#9bb8d3", 1), (drawn.smooth, "#1f5f99", 2), (drawn.held_line, "#c4501b", 2)]
        body += [
            f'<path d="M{LEFT} {ABOVE}V{base}H{end}" fill="none" stroke="#999"/>',
            f'<text x="{LEFT - 6}" y="{ABOVE + 4}" text-anchor="end">{drawn.high:.3g}</text>',
            f'<text x="{LEFT - 6}" y="{base + 4}" text-anchor="end">{drawn.low:.3g}</text>',
            f'<text x="{LEFT}" y="{HIGH - 12}">step {drawn.first}</text>',
            f'<text x="{end}" y="{HIGH - 12}" text-anchor="end">{drawn.last}</text>',
            f'<text x="{LEFT + 12}" y="16" fill="#1f5f99">training loss, smoothed</text>',
            f'<g transform="{scale}" fill="none">',
            *(
                f'<polyline {plain} stroke="{colour}" stroke-width="{width}" points="{points}"/>'
                for points, colour, width in lines
                if points
            ),
            "</g>",
        ]
        if drawn.held:
            body.append(f'<text x="{LEFT + 260}" y="16" fill="#c4501b">held-out loss</text>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" font-family="sans-serif" font-size="12">'
    )
    return "\n".join([head, *body, "</svg>"])
