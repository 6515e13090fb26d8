"""A picture of the classes of heads: layers across, heads down."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.propagation.heads import Heads

CELL, GAP, LEFT, TOP, BOTTOM = 26, 2, 44, 42, 54
SPATIAL, TEMPORAL, PAPER, INK = (43, 108, 176), (214, 108, 34), (255, 255, 255), (40, 40, 40)
"""Colours of the two classes, which people who see no red and green tell apart too."""


def head_picture(heads: Heads) -> bytes:
    """Draw the classes as PNG: blue is spatial, orange temporal, paler where clips disagreed; a number counts votes."""
    from PIL import Image, ImageDraw

    layers, count, clips = len(heads.temporal), len(heads.temporal[0]), len(heads.clips)
    width, height = max(LEFT + layers * CELL + 12, 420), TOP + count * CELL + BOTTOM
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((8, 6), f"heads of {heads.model or heads.base}", INK)
    for layer in range(layers):
        draw.text((LEFT + layer * CELL + 6, TOP - 16), str(layer), INK)
        for head in range(count):
            left, top = LEFT + layer * CELL, TOP + head * CELL
            votes = heads.votes[layer][head]
            colour = _shade(TEMPORAL if heads.temporal[layer][head] else SPATIAL, abs(2 * votes / clips - 1))
            draw.rectangle((left, top, left + CELL - GAP - 1, top + CELL - GAP - 1), fill=colour)
            draw.text((left + 6, top + 6), str(votes), PAPER)
    for head in range(count):
        draw.text((8, TOP + head * CELL + 6), str(head), INK)
    base = TOP + count * CELL + 8
    for row, (colour, text) in enumerate(((SPATIAL, "spatial"), (TEMPORAL, "temporal"))):
        draw.rectangle((LEFT + 90 * row, base, LEFT + 90 * row + 11, base + 11), fill=colour)
        draw.text((LEFT + 90 * row + 18, base), text, INK)
    size = f"{heads.width}x{heads.height}, {heads.frames} frames"
    draw.text((LEFT, base + 20), f"votes for temporal of {clips} clips; layers across, heads down; {size}", INK)
    found = io.BytesIO()
    image.save(found, "PNG")
    return found.getvalue()


def _shade(colour: tuple[int, int, int], agreement: float) -> tuple[int, ...]:
    """Mix a colour with paper where clips agree less."""
    share = 0.45 + 0.55 * agreement
    mixed: NDArray[np.float64] = share * np.array(colour) + (1 - share) * np.array(PAPER)
    return tuple(int(value) for value in mixed)
