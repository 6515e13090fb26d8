"""Which pixels of an object carry its paint, and how paint of another colour looks on them, in CIE Lab.

Two ways lead to a new colour. A coloured object is turned by hue: its chroma and its lightness keep their variation. A
white, grey or black one has no hue to turn: it is painted, which multiplies the new colour's lightness by the shading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ffpdata.models.classical.colour import NAMES, dominant_colour, name_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.classical.colour import Lab

    Values = NDArray[np.float32]

COLOURS: dict[str, Lab] = {
    "red": (48.0, 62.0, 42.0),
    "orange": (66.0, 42.0, 66.0),
    "yellow": (84.0, 2.0, 74.0),
    "green": (54.0, -48.0, 40.0),
    "cyan": (74.0, -36.0, -18.0),
    "blue": (42.0, 14.0, -58.0),
    "purple": (42.0, 46.0, -48.0),
    "pink": (70.0, 48.0, -2.0),
}
"""New colours, in CIE Lab."""

NEUTRAL_CHROMA = 12.0
"""Below this median chroma an object has no hue: it is painted instead."""
VIVID_CHROMA = 45.0
VIVID_PART = 0.1
"""A colour of at least this chroma on at least this part of an object is recoloured, e.g. the red of a motorcycle that
is mostly chrome."""
PLAIN_PART = 0.45
"""A paler colour must cover at least this part: otherwise it may be skin or shadow."""
UNIFORM_PART = 0.9
"""An object with one hue on at least this part is recoloured as a whole, including highlights."""
SHADED = 0.5
"""Lightness, of the paint's own, below which a pixel of a light neutral object is a window, a tyre or a shadow."""
_PAINTED = 40.0
"""Lightness from which that holds: below it paint and shadow look alike."""
_LIT = 40.0
"""Lightness above the paint's own from which a pixel of a dark neutral object is another thing."""
_HUE_TOLERANCE = 40.0
"""Pixels within this angle of the object's hue are recoloured fully; the effect fades out at 1.6 times that."""
_LIGHT_PULL = 0.45
"""Share of the new colour's lightness in a turn by hue: 0 keeps the old lightness, 1 takes the new."""
_BLACK = 10.0
"""Added to lightness before two are divided, so that noise of dark pixels is not multiplied."""


@dataclass(frozen=True)
class Paint:
    """The paint that an object has: its name, its median CIE Lab, and the smallest part of the object that counts."""

    name: str
    lab: Lab
    least: float

    @property
    def chroma(self) -> float:
        """Chroma of the median."""
        return math.hypot(self.lab[1], self.lab[2])

    @property
    def hue(self) -> float:
        """Hue angle of the median, degrees."""
        return math.degrees(math.atan2(self.lab[2], self.lab[1]))

    @property
    def neutral(self) -> bool:
        """Whether it has no hue."""
        return self.chroma < NEUTRAL_CHROMA


def find_paint(pixels: NDArray[np.uint8]) -> Paint:
    """Choose the paint of uint8 (N, 3) pixels that a change is about.

    It is a vivid one, even on a small part, or else the commonest.
    """
    flat = pixels[:: max(1, len(pixels) // 20_000)]
    names = name_pixels(flat)
    counts = np.bincount(names, minlength=len(NAMES)) / len(flat)
    for index in np.argsort(-counts, kind="stable"):
        if counts[index] < VIVID_PART:
            break
        name, lab = dominant_colour(flat[names == index])
        if math.hypot(lab[1], lab[2]) >= VIVID_CHROMA:
            return Paint(name, lab, VIVID_PART)
    return Paint(*dominant_colour(pixels), PLAIN_PART)


class PaintedPart:
    """The part of an object that carries its paint, as a weight per pixel."""

    def __init__(self, paint: Paint, lab: Values) -> None:
        """Take the paint, and pixels of the object, float32 (N, 3) CIE Lab, to which the part is fitted."""
        self.paint = paint
        self._vividness = max(paint.chroma, 1.0) / (paint.lab[0] + 5)
        self._uniform = True
        self._uniform = self.share(lab) >= UNIFORM_PART

    def share(self, lab: Values) -> float:
        """Return the part of pixels, (N, 3) CIE Lab, that carries the paint, 0..1."""
        return float(self.weight(lab).mean()) if len(lab) else 0.0

    def weight(self, lab: Values) -> Values:
        """Return how much of the paint each pixel of (..., 3) CIE Lab carries, 0..1."""
        chroma = np.hypot(lab[..., 1], lab[..., 2])
        if self.paint.neutral:
            plain = np.clip((2.2 * NEUTRAL_CHROMA - chroma) / NEUTRAL_CHROMA, 0, 1)
            if self.paint.lab[0] < _PAINTED:  # white shoes are no highlight of a black suit
                return plain * np.clip((_LIT + self.paint.lab[0] - lab[..., 0]) / 10, 0, 1)
            shaded = SHADED * self.paint.lab[0]
            return plain * np.clip((lab[..., 0] - shaded) / (0.3 * shaded), 0, 1)
        hue = np.degrees(np.arctan2(lab[..., 2], lab[..., 1]))
        distance = np.abs(angle(hue - self.paint.hue))
        near = np.clip((1.6 * _HUE_TOLERANCE - distance) / (0.6 * _HUE_TOLERANCE), 0, 1)
        near *= np.clip((chroma - 3) / 6, 0, 1)
        if self._uniform:
            return near
        # Shading lowers chroma and lightness together: their ratio separates paint from pale colours, as skin.
        vivid = chroma / (lab[..., 0] + 5) / self._vividness
        return near * np.clip((vivid - 0.45) / 0.15, 0, 1)


class Whole:
    """All of an object, whatever its colours, in place of `PaintedPart`."""

    def __init__(self, paint: Paint) -> None:
        self.paint = paint

    def share(self, lab: Values) -> float:  # noqa: ARG002 - as `PaintedPart`
        """Return 1."""
        return 1.0

    def weight(self, lab: Values) -> Values:
        """Return 1 for each pixel of (..., 3)."""
        return np.ones(lab.shape[:-1], np.float32)


def turned(lab: Values, paint: Paint, colour: Lab) -> Values:
    """Turn coloured pixels, float32 (..., 3) CIE Lab, from `paint` to `colour` by hue."""
    light = min(max(paint.lab[0], 6.0), 94.0)
    goal = min(max(light + _LIGHT_PULL * (colour[0] - light), 12.0), 88.0)
    power = math.log(goal / 100) / math.log(light / 100)
    new_chroma, new_hue = math.hypot(colour[1], colour[2]), math.degrees(math.atan2(colour[2], colour[1]))
    gain = float(np.clip(new_chroma / max(paint.chroma, 1.0), 0.6, 1.6))
    spread = angle(np.degrees(np.arctan2(lab[..., 2], lab[..., 1])) - paint.hue)
    hue = np.radians(new_hue + 0.4 * np.clip(spread, -45, 45))
    chroma = np.hypot(lab[..., 1], lab[..., 2]) * gain
    lightness = 100 * (np.clip(lab[..., 0], 0, 100) / 100) ** power
    return np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1).astype(np.float32)


def painted(lab: Values, paint: Paint, colour: Lab) -> Values:
    """Paint pixels, float32 (..., 3) CIE Lab, with `colour`: their lightness against the paint's is the shading."""
    shading = np.clip((lab[..., 0] + _BLACK) / (paint.lab[0] + _BLACK), 0.1, 1.9)
    lightness = np.clip(colour[0] * shading**0.9, 0, 97)
    shine = np.clip((100 - lab[..., 0]) / 12, 0.25, 1)  # a highlight has the light's colour
    chroma = np.clip(shading, 0.2, 1.25) ** 0.7 * shine
    return np.stack([lightness, colour[1] * chroma, colour[2] * chroma], axis=-1).astype(np.float32)


def angle(degrees: Values | float) -> Values:
    """Fold angles into -180..180."""
    folded: Values = (np.asarray(degrees, np.float32) + 180) % 360 - 180
    return folded
