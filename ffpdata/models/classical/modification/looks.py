"""The new looks that an object can get, and which of them suit what it looks like now."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ffpdata.models.classical.modification.colour_map import (
    COLOURS,
    PLAIN_PART,
    Paint,
    PaintedPart,
    Whole,
    angle,
    painted,
    turned,
)
from ffpdata.models.classical.modification.materials import MATERIALS, Cast
from ffpdata.models.classical.modification.patterns import PATTERNS, lower_half

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.models.classical.colour import Lab

    Values = NDArray[np.float32]
    Plane = NDArray[np.float32]

T = TypeVar("T")

LOOKS = ("recolour", "stripes", "dots", "checks", "two_colours", "darker", "lighter", "grey", *MATERIALS)
"""Names of the looks."""
MIN_HUE_STEP = 75.0
"""Smallest angle between the old and a new hue, in degrees of the Lab plane."""
CONTRAST = 45.0
"""Smallest CIE76 distance between an object's paint and that of a pattern on it."""
SOLID = 0.75
"""Share of an object's lit pixels that carry its paint, from which a pattern does not look like blotches on it."""
SKIN = 0.08
"""Share of skin-coloured pixels from which an object's look is changed on its painted part alone."""
BARE = 0.02
"""Share of skin-coloured pixels beside the paint from which an object may be a person, whose clothes alone are
recoloured, and only where they have a hue: a pattern would lie on the face, and hair and shoes may be black, too."""
_DARK = 18.0
"""Lightness below which a pixel has no colour to count: a window, a tyre, a gap."""
_WEIGHTS = {"recolour": 4, "stripes": 2, "dots": 2, "checks": 1, "two_colours": 2, "darker": 1, "lighter": 1, "grey": 1}
_WEIGHTS |= dict.fromkeys(MATERIALS, 0.6)
"""How often a look is chosen, against the others that suit."""
_ANOTHER = 25.0
"""Smallest CIE76 distance between an object's mean colour now and in a material."""


@dataclass(frozen=True)
class Look:
    """A new look.

    Attributes:
        name: one of `LOOKS`.
        part: what of the object it changes.
        colours: new colours, CIE Lab: none for tones, two for `two_colours`.
        turn: angle of a pattern, radians.
        goal: lightness that the paint gets, for tones.
        cast: a material's colours, fitted to the object.
    """

    name: str
    part: PaintedPart | Whole
    colours: tuple[Lab, ...] = ()
    turn: float = 0.0
    goal: float = 0.0
    cast: Cast | None = None

    @property
    def colour(self) -> str:
        """Name of its one new colour; empty for none, and for two."""
        found = [name for name, colour in COLOURS.items() if colour in self.colours]
        return found[0] if len(found) == 1 else ""

    @property
    def on_surface(self) -> bool:
        """Whether it needs coordinates on the object."""
        return self.name in PATTERNS or self.name == "two_colours"

    def change(self, lab: Values, at: Plane | None) -> tuple[Values, Values]:
        """Return the new CIE Lab values (..., 3) of pixels, and how much of them counts, (...), 0..1.

        Args:
            lab: float32 (h, w, 3) or (N, 3), CIE Lab.
            at: coordinates on the object, float32 (h, w, 2), for a look `on_surface`.
        """
        weight, paint = self.part.weight(lab), self.part.paint
        if self.cast is not None:
            return self.cast.change(lab), weight
        if self.name in ("darker", "lighter"):
            return _toned(lab, paint, self.goal), weight
        if self.name == "grey":
            return lab * np.array([1, 0.06, 0.06], np.float32), weight
        if self.name == "recolour":
            return (painted if paint.neutral else turned)(lab, paint, self.colours[0]), weight
        if at is None:
            raise ValueError(f"the look {self.name} needs coordinates on the object")
        if self.name == "two_colours":
            below = lower_half(at, 0)[..., None]
            upper, lower = (painted(lab, paint, colour) for colour in self.colours)
            return upper + below * (lower - upper), weight
        return painted(lab, paint, self.colours[0]), weight * PATTERNS[self.name](at, self.turn)


def suiting(paint: Paint, lab: Values, seed: int, allowed: Sequence[str] = LOOKS) -> list[Look]:
    """Return the looks that suit an object, in the order in which a seed tries them.

    Args:
        paint: of the object.
        lab: pixels of the object, float32 (N, 3), CIE Lab.
        seed: any integer.
        allowed: names of looks.
    """
    draw = np.random.default_rng(seed)
    part = PaintedPart(paint, lab)
    share = part.share(lab)
    found: list[PaintedPart | Whole] = [part] if share >= paint.least else []
    body: PaintedPart | Whole | None = part if share >= PLAIN_PART else None
    lit = lab[lab[:, 0] > max(_DARK, 0.45 * paint.lab[0])]
    solid = part.share(lit) >= SOLID
    skin = _skin(lab)
    if (skin & (part.weight(lab) < 0.5)).mean() >= BARE:
        found, body = ([] if paint.neutral else found), None
    elif body is None and not found and skin.mean() < SKIN:
        body = Whole(Paint(paint.name, _median(lab), 0.0))
    out: dict[str, Look] = {}
    if found:
        colours = [c for name, c in COLOURS.items() if name != paint.name and _is_far(paint, c)]
        out["recolour"] = Look("recolour", part, (_one(draw, colours),))
    if body is not None:
        base = body.paint
        far = [c for c in COLOURS.values() if math.dist(c, base.lab) >= CONTRAST]
        turn = _one(draw, (0.0, math.pi / 4, math.pi / 2))
        for name in PATTERNS:
            if solid or isinstance(body, Whole):
                out[name] = Look(name, body, (_one(draw, far),), turn)
        first = _one(draw, far)
        others = [c for c in far if abs(angle(_hue(c) - _hue(first))) >= MIN_HUE_STEP]
        if others and solid:
            out["two_colours"] = Look("two_colours", body, (first, _one(draw, others)))
        light = base.lab[0]
        if light >= 48:
            out["darker"] = Look("darker", body, goal=0.5 * light)
        if 12 <= light <= 55:
            out["lighter"] = Look("lighter", body, goal=light + 0.45 * (92 - light))
        if base.chroma >= 30:
            out["grey"] = Look("grey", body)
    if body is not None or not out:  # clothes with a hue are recoloured, before their wearer becomes a statue
        casts = {name: Cast(material, lab) for name, material in MATERIALS.items()}
        whole = Whole(paint)
        out |= {name: Look(name, whole, cast=c) for name, c in casts.items() if c.distance(lab) >= _ANOTHER}
    names = [name for name in LOOKS if name in out and name in allowed]
    weights = np.array([_WEIGHTS[name] for name in names], float)
    # Weighted order without replacement: exponential times, the shortest first.
    times = draw.exponential(size=len(LOOKS))[: len(names)] / weights
    return [out[names[i]] for i in np.argsort(times, kind="stable")]


def _toned(lab: Values, paint: Paint, goal: float) -> Values:
    """Bring the paint to the lightness `goal` by a power curve, which keeps black and white; chroma follows."""
    light = min(max(paint.lab[0], 6.0), 94.0)
    power = math.log(min(max(goal, 4.0), 96.0) / 100) / math.log(light / 100)
    lightness = 100 * (np.clip(lab[..., 0], 0, 100) / 100) ** power
    ratio = np.clip((lightness + 8) / (lab[..., 0] + 8), 0.4, 1.0)
    return np.stack([lightness, lab[..., 1] * ratio, lab[..., 2] * ratio], axis=-1).astype(np.float32)


def _is_far(paint: Paint, colour: Lab) -> bool:
    return paint.neutral or abs(float(angle(_hue(colour) - paint.hue))) >= MIN_HUE_STEP


def _hue(colour: Lab) -> float:
    return math.degrees(math.atan2(colour[2], colour[1]))


def _median(lab: Values) -> Lab:
    light, green_red, blue_yellow = np.median(lab, axis=0)
    return float(light), float(green_red), float(blue_yellow)


def _skin(lab: Values) -> NDArray[np.bool_]:
    """Return which pixels may be skin, (N,); wood, sand and fur count, too."""
    chroma, hue = np.hypot(lab[:, 1], lab[:, 2]), np.degrees(np.arctan2(lab[:, 2], lab[:, 1]))
    return (lab[:, 0] > 28) & (lab[:, 0] < 90) & (chroma > 12) & (chroma < 42) & (hue > 22) & (hue < 75)


def _one(draw: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(draw.integers(len(choices)))]
