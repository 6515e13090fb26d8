"""Measured attributes in words: colours, light and detail of a scene; colour, place and motion of a masked object.

`TemplateVision` uses only these words. No category is recognised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ffpdata.models.classical.colour import NAMES, name_pixels, to_lab

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pictures = NDArray[np.uint8]
    Masks = NDArray[np.bool_]

SAMPLED_FRAMES = 5
"""Evenly spaced frames of a clip that are measured."""
SIDE = 256
"""Long side of these frames, in pixels."""
MAIN_SHARE, SECOND_SHARE = 0.55, 0.25
"""Share of an object's pixels from which its first colour describes it, or its second is named too."""
COLOUR_SAMPLES = 20_000
"""Number of pixels from which colours are named."""
TRAVEL = 0.12
"""Distance, as a fraction of the picture's side, from which an object counts as moving."""

_NEUTRALS = tuple(NAMES.index(name) for name in ("black", "white", "grey"))
_PALE = 14.0
"""Chroma up to which a light bluish pixel has no hue: white in the shade has the sky's light."""
_LIGHTNESS = {"black": 20.0, "grey": 54.0, "white": 90.0}
"""CIE lightness of the lit side of a surface, where white is 100."""
_DARK = 27.0
"""Lightness below which a pixel without hue is black, or a gap in what has another colour."""
_LIT = 0.4
"""Share of what has no hue from which its lit, or its dark pixels are a colour of their own."""
_LEAST_WHITE = 75.0
"""Lightness of white in the dimmest light that is made up for: at night nothing is white."""


@dataclass(frozen=True)
class SceneDescription:
    """A scene in words.

    Attributes:
        bands: main colour of the top, the middle and the bottom third, e.g. `dark green`.
        light: `dark`, `dim`, `softly lit` or `bright`.
        colour: `muted`, `natural` or `vivid`.
        tone: `warm`, `cool` or `neutral`.
        detail: `smooth`, `lightly textured` or `finely detailed`.
        contrast: `gentle`, `clear` or `strong`.
        lighter: the clearly lighter half, `upper` or `lower`, or empty.
    """

    bands: tuple[str, str, str]
    light: str
    colour: str
    tone: str
    detail: str
    contrast: str
    lighter: str


@dataclass(frozen=True)
class ObjectDescription:
    """A masked object in words; unclear attributes are empty.

    Attributes:
        colour: one colour or two: `brown`, `white and brown`.
        place: `on the left`, `in the middle`, `at the top right` ...
        motion: `moving from left to right`, `coming closer` ...
        size: `small`, `large` or empty.
    """

    colour: str = ""
    place: str = ""
    motion: str = ""
    size: str = ""


def sample_frames(frames: NDArray[Any], side: int = SIDE, count: int = SAMPLED_FRAMES) -> NDArray[Any]:
    """Return `count` evenly spaced frames of a clip (or the one image), scaled to a long side of at most `side`.

    Args:
        frames: uint8 (T, H, W, 3), uint8 (H, W, 3) or bool (T, H, W).
        side: pixels.
        count: frames.

    Returns:
        An array (n, h, w[, 3]) of the same type, n <= count.
    """
    if frames.dtype != np.bool_ and frames.ndim == 3:
        frames = frames[None]
    chosen = np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))
    height, width = frames.shape[1:3]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if frames.dtype == np.bool_:
        return (
            np.stack([cv2.resize(frames[t].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for t in chosen])
            > 0
        )
    return np.stack([cv2.resize(frames[t], size, interpolation=cv2.INTER_AREA) for t in chosen])


def describe_scene(frames: Pictures, masks: Masks | None = None) -> SceneDescription:
    """Describe an image (H, W, 3) or a clip (T, H, W, 3), uint8 RGB, without the pixels of `masks`, bool (T, H, W)."""
    sampled = sample_frames(frames)
    around = np.ones(sampled.shape[:3], bool)
    if masks is not None and len(masks):
        outside = ~sample_frames(masks)
        around = outside if outside.shape == around.shape and outside.any() else around
    rows = np.array_split(np.arange(sampled.shape[1]), 3)
    bands = []
    for band in rows:
        pixels = sampled[:, band][around[:, band]]
        bands.append(palette(pixels if len(pixels) else sampled, most=1, shades=True)[0])
    halves = [float(half.mean()) for half in np.array_split(to_lab(sampled)[..., 0], 2, axis=1) if half.size]
    lab = to_lab(sampled)[around]
    light, warmth = float(lab[:, 0].mean()), float(lab[:, 2].mean())
    chroma = float(np.hypot(lab[:, 1], lab[:, 2]).mean())
    return SceneDescription(
        bands=(bands[0], bands[1], bands[2]),
        light=_word(light, (18, "dark"), (38, "dim"), (68, "softly lit"), (np.inf, "bright")),
        colour=_word(chroma, (12, "muted"), (32, "natural"), (np.inf, "vivid")),
        tone=_word(warmth, (-4, "cool"), (7, "neutral"), (np.inf, "warm")),
        detail=_word(_detail(sampled), (3, "smooth"), (9, "lightly textured"), (np.inf, "finely detailed")),
        contrast=_word(float(lab[:, 0].std()), (15, "gentle"), (26, "clear"), (np.inf, "strong")),
        lighter=_word(halves[0] - halves[-1], (-6, "lower"), (6, ""), (np.inf, "upper")),
    )


def describe_object(frames: Pictures, masks: Masks) -> ObjectDescription:
    """Describe the object under `masks`, bool (T, H, W), in `frames`, uint8 (T, H, W, 3); no words if empty."""
    sampled, sampled_masks = sample_frames(frames, count=9), sample_frames(masks, count=9)
    if sampled.shape[:3] != sampled_masks.shape or not sampled_masks.any():
        return ObjectDescription()
    centres, sizes = [], []
    for mask in sampled_masks:
        if mask.any():
            y, x = np.nonzero(mask)
            centres.append(((x.mean() + 0.5) / mask.shape[1], (y.mean() + 0.5) / mask.shape[0]))
            sizes.append(float(mask.mean()))
    return ObjectDescription(
        colour=object_colour(sampled[sampled_masks], scene_white(sampled)),
        place=_place(*np.mean(centres, axis=0)),
        motion=_motion(np.array(centres), np.array(sizes)),
        size=_word(float(np.mean(sizes)), (0.01, "small"), (0.15, ""), (np.inf, "large")),
    )


def palette(pixels: Pictures, most: int = 3, least: float = 0.1, *, shades: bool = False) -> list[str]:
    """Name the colours of pixels, the commonest first.

    Args:
        pixels: uint8 (..., 3) RGB.
        most: largest number of names.
        least: smallest share of the pixels for all names but the first.
        shades: whether names may have shades, e.g. `dark blue`.
    """
    shares = _shares(pixels, shades=shades)[:most]
    return [name for rank, (name, share) in enumerate(shares) if rank == 0 or share >= least]


def clear_colour(pixels: Pictures, least: float, *, shades: bool = False) -> str:
    """Name the commonest colour of pixels, uint8 (..., 3) RGB, if a share `least` of them has it; else nothing."""
    name, share = _shares(pixels, shades=shades)[0]
    return name if share >= least else ""


def object_colour(pixels: Pictures, white: float = 100.0) -> str:
    """Name the one or two colours of most of an object's pixels; empty where they are more than two.

    What has no hue is named as one surface under its light: a white car is white in its shaded parts, too, and its
    windows and tyres do not make it grey.

    Args:
        pixels: uint8 (..., 3) RGB.
        white: lightness of white in the scene's light, see `scene_white`.
    """
    flat = np.ascontiguousarray(pixels.reshape(-1, 3))
    flat = flat[:: max(1, len(flat) // COLOUR_SAMPLES)]
    names, lab = name_pixels(flat), to_lab(flat)
    plain = np.isin(names, _NEUTRALS) | ((np.hypot(lab[:, 1], lab[:, 2]) < _PALE) & (lab[:, 0] > 50) & (lab[:, 2] < 0))
    shares = np.bincount(names[~plain], minlength=len(NAMES)) / len(flat)
    found = {NAMES[i]: float(share) for i, share in enumerate(shares) if share}
    for name, share in _neutrals(lab[plain, 0] * (100 / white), plain.mean()).items():
        found[name] = found.get(name, 0.0) + share
    ordered = sorted(found.items(), key=lambda one: -one[1])
    if ordered[0][1] >= MAIN_SHARE:
        return ordered[0][0]
    if len(ordered) > 1 and ordered[1][1] >= SECOND_SHARE and ordered[0][1] + ordered[1][1] >= MAIN_SHARE:
        return f"{ordered[0][0]} and {ordered[1][0]}"
    return ""


def _neutrals(light: NDArray[Any], share: float) -> dict[str, float]:
    """Split the pixels without hue into a lit surface and what is dark, and name them; shares add up to `share`."""
    if not len(light):
        return {}
    lit = light > _DARK
    if lit.mean() < _LIT:
        return {"black": share}
    # The lit side shows a surface's own lightness: its shaded side says how it stands to the light.
    seen = float(np.quantile(light[lit], 0.7))
    name = min(_LIGHTNESS, key=lambda one: abs(_LIGHTNESS[one] - seen))
    dark = float(1 - lit.mean())
    # Windows, tyres and gaps are a smaller part of what is dark; more of it is a second colour.
    return {name: share} if dark < _LIT else {name: share * (1 - dark), "black": share * dark}


def scene_white(frames: Pictures) -> float:
    """Return the CIE lightness that white has in the light of frames, uint8 (..., 3), at most 100."""
    return float(max(_LEAST_WHITE, np.quantile(to_lab(frames)[..., 0], 0.98)))


def _shares(pixels: Pictures, *, shades: bool = False) -> list[tuple[str, float]]:
    """Return the colours of uint8 (..., 3) pixels with their shares, the largest first."""
    flat = np.ascontiguousarray(pixels.reshape(-1, 3))
    flat = flat[:: max(1, len(flat) // COLOUR_SAMPLES)]
    names = name_pixels(flat)
    shares = np.bincount(names, minlength=len(NAMES)) / len(flat)
    found = [int(i) for i in np.argsort(-shares, kind="stable") if shares[i] > 0]
    if not shades:
        return [(NAMES[i], float(shares[i])) for i in found]
    return [(_shade(NAMES[i], np.median(to_lab(flat[names == i]), axis=0)), float(shares[i])) for i in found]


def _shade(name: str, lab: NDArray[Any]) -> str:
    """Prefix a colour's name with `dark`, `light` or `pale` by its median CIELAB value."""
    light, chroma = float(lab[0]), float(np.hypot(lab[1], lab[2]))
    if name in ("black", "white"):
        return name
    if light < 36:
        return f"dark {name}"
    if light > 70 and name == "grey":
        return f"light {name}"
    return f"pale {name}" if light > 78 and chroma < 40 and name != "grey" else name


def _detail(sampled: Pictures) -> float:
    """Return the mean absolute difference between frames and their blurred copies, levels of 255."""
    deviations = []
    for frame in sampled:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        deviations.append(float(np.abs(grey - cv2.GaussianBlur(grey, (0, 0), 2)).mean()))
    return float(np.mean(deviations))


def _word(value: float, *steps: tuple[float, str]) -> str:
    """Return the word of the first step whose bound `value` lies below."""
    return next(word for bound, word in steps if value < bound)


def _place(x: float, y: float) -> str:
    column = _word(x, (0.36, "left"), (0.64, ""), (np.inf, "right"))
    row = _word(y, (0.33, "top"), (0.67, ""), (np.inf, "bottom"))
    if row:
        return f"at the {row} {column}".rstrip()
    return f"on the {column}" if column else "in the middle"


def _motion(centres: NDArray[np.float64], sizes: NDArray[np.float64]) -> str:
    """Describe an object's motion by its centres (n, 2), 0..1 of the picture, and its areas (n,)."""
    if len(centres) < 3:
        return ""
    ends = max(1, len(centres) // 4)
    right, down = centres[-ends:].mean(axis=0) - centres[:ends].mean(axis=0)
    if max(abs(right), abs(down)) >= TRAVEL:
        if abs(right) >= abs(down):
            return "moving from left to right" if right > 0 else "moving from right to left"
        return "moving downwards" if down > 0 else "moving upwards"
    growth = sizes[-ends:].mean() / max(sizes[:ends].mean(), 1e-9)
    if growth > 2 or growth < 0.5:
        return "coming closer" if growth > 2 else "moving away"
    wandered = np.abs(np.diff(centres, axis=0)).sum(axis=0).max()
    return "moving back and forth" if wandered >= 3 * TRAVEL else ""
