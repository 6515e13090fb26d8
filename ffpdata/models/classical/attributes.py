"""What a picture or a clip measurably is: colours, light and detail of a scene; colour, place and motion of a thing.

Everything that `TemplateVision` says is one of these words. Nothing here recognises anything.
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

LOOKS = 5
"""Frames of a clip that are looked at, evenly spaced."""
SIDE = 256
"""Long side, in pixels, at which they are looked at."""
MAIN_SHARE, SECOND_SHARE = 0.55, 0.25
"""Share of a thing's pixels from which its first colour alone, or with its second, describes it."""
SAMPLES = 20_000
"""Pixels that a colour is named from."""
TRAVEL = 0.12
"""Way, as a part of the picture's side, from which a thing moves rather than stays."""


@dataclass(frozen=True)
class Scene:
    """A scene in words.

    Attributes:
        bands: main colour of the top, the middle and the bottom third, e.g. `dark green`.
        light: `dark`, `dim`, `softly lit` or `bright`.
        colour: `muted`, `natural` or `vivid`.
        tone: `warm`, `cool` or `neutral`.
        detail: `smooth`, `lightly textured` or `finely detailed`.
        contrast: `gentle`, `clear` or `strong`.
        lighter: `upper`, `lower` or empty: the half that is clearly the lighter one.
    """

    bands: tuple[str, str, str]
    light: str
    colour: str
    tone: str
    detail: str
    contrast: str
    lighter: str


@dataclass(frozen=True)
class Thing:
    """What a mask covers, in words; words that were not measured clearly are empty.

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


def look(frames: NDArray[Any], side: int = SIDE, count: int = LOOKS) -> NDArray[Any]:
    """Take `count` frames of a clip (or the one image), scaled so that the long side is at most `side`.

    Args:
        frames: uint8 (T, H, W, 3), uint8 (H, W, 3) or bool (T, H, W).
        side: pixels.
        count: frames.

    Returns:
        An array (n, h, w[, 3]) of the same type, n <= count.
    """
    if frames.dtype != np.bool_ and frames.ndim == 3:
        frames = frames[None]
    picks = np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))
    height, width = frames.shape[1:3]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if frames.dtype == np.bool_:
        return (
            np.stack([cv2.resize(frames[t].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) for t in picks]) > 0
        )
    return np.stack([cv2.resize(frames[t], size, interpolation=cv2.INTER_AREA) for t in picks])


def measure_scene(frames: Pictures, masks: Masks | None = None) -> Scene:
    """Describe an image (H, W, 3) or a clip (T, H, W, 3), uint8 RGB; what `masks` (T, H, W) covers is left out."""
    seen = look(frames)
    around = np.ones(seen.shape[:3], bool)
    if masks is not None and len(masks):
        outside = ~look(masks)
        around = outside if outside.shape == around.shape and outside.any() else around
    rows = np.array_split(np.arange(seen.shape[1]), 3)
    bands = []
    for band in rows:
        pixels = seen[:, band][around[:, band]]
        bands.append(palette(pixels if len(pixels) else seen, most=1, shades=True)[0])
    halves = [float(half.mean()) for half in np.array_split(to_lab(seen)[..., 0], 2, axis=1) if half.size]
    lab = to_lab(seen)[around]
    light, warmth = float(lab[:, 0].mean()), float(lab[:, 2].mean())
    chroma = float(np.hypot(lab[:, 1], lab[:, 2]).mean())
    return Scene(
        bands=(bands[0], bands[1], bands[2]),
        light=_word(light, (18, "dark"), (38, "dim"), (68, "softly lit"), (np.inf, "bright")),
        colour=_word(chroma, (12, "muted"), (32, "natural"), (np.inf, "vivid")),
        tone=_word(warmth, (-4, "cool"), (7, "neutral"), (np.inf, "warm")),
        detail=_word(_detail(seen), (3, "smooth"), (9, "lightly textured"), (np.inf, "finely detailed")),
        contrast=_word(float(lab[:, 0].std()), (15, "gentle"), (26, "clear"), (np.inf, "strong")),
        lighter=_word(halves[0] - halves[-1], (-6, "lower"), (6, ""), (np.inf, "upper")),
    )


def measure_thing(frames: Pictures, masks: Masks) -> Thing:
    """Describe what `masks`, bool (T, H, W), cover in `frames`, uint8 (T, H, W, 3) RGB; empty masks give no words."""
    seen, where = look(frames, count=9), look(masks, count=9)
    if seen.shape[:3] != where.shape or not where.any():
        return Thing()
    middles, sizes = [], []
    for mask in where:
        if mask.any():
            y, x = np.nonzero(mask)
            middles.append(((x.mean() + 0.5) / mask.shape[1], (y.mean() + 0.5) / mask.shape[0]))
            sizes.append(float(mask.mean()))
    return Thing(
        colour=thing_colour(seen[where]),
        place=_place(*np.mean(middles, axis=0)),
        motion=_motion(np.array(middles), np.array(sizes)),
        size=_word(float(np.mean(sizes)), (0.01, "small"), (0.15, ""), (np.inf, "large")),
    )


def palette(pixels: Pictures, most: int = 3, least: float = 0.1, *, shades: bool = False) -> list[str]:
    """Name the colours of pixels, the commonest first.

    Args:
        pixels: uint8 (..., 3) RGB.
        most: how many at most.
        least: share of the pixels that all but the first must have.
        shades: whether a colour may be called dark, light or pale, e.g. `dark blue`.
    """
    shares = _shares(pixels, shades=shades)[:most]
    return [name for rank, (name, share) in enumerate(shares) if rank == 0 or share >= least]


def thing_colour(pixels: Pictures) -> str:
    """Name the one or two colours that cover a thing, or return an empty string where it takes more."""
    shares = _shares(pixels)
    if shares[0][1] >= MAIN_SHARE:
        return shares[0][0]
    if len(shares) > 1 and shares[1][1] >= SECOND_SHARE and shares[0][1] + shares[1][1] >= MAIN_SHARE:
        return f"{shares[0][0]} and {shares[1][0]}"
    return ""


def _shares(pixels: Pictures, *, shades: bool = False) -> list[tuple[str, float]]:
    """Return the colours of uint8 (..., 3) pixels with their shares, the largest first."""
    flat = np.ascontiguousarray(pixels.reshape(-1, 3))
    flat = flat[:: max(1, len(flat) // SAMPLES)]
    names = name_pixels(flat)
    shares = np.bincount(names, minlength=len(NAMES)) / len(flat)
    found = [int(i) for i in np.argsort(-shares, kind="stable") if shares[i] > 0]
    if not shades:
        return [(NAMES[i], float(shares[i])) for i in found]
    return [(_shade(NAMES[i], np.median(to_lab(flat[names == i]), axis=0)), float(shares[i])) for i in found]


def _shade(name: str, lab: NDArray[Any]) -> str:
    """Put `dark`, `light` or `pale` before the name of a colour whose median CIELAB value calls for it."""
    light, chroma = float(lab[0]), float(np.hypot(lab[1], lab[2]))
    if name in ("black", "white"):
        return name
    if light < 36:
        return f"dark {name}"
    if light > 70 and name == "grey":
        return f"light {name}"
    return f"pale {name}" if light > 78 and chroma < 40 and name != "grey" else name


def _detail(seen: Pictures) -> float:
    """Mean deviation of grey levels (0..255) from their surroundings."""
    deviations = []
    for frame in seen:
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


def _motion(middles: NDArray[np.float64], sizes: NDArray[np.float64]) -> str:
    """Name the way of a thing from its middles (n, 2), in 0..1 of the picture, and sizes (n,)."""
    if len(middles) < 3:
        return ""
    ends = max(1, len(middles) // 4)
    right, down = middles[-ends:].mean(axis=0) - middles[:ends].mean(axis=0)
    if max(abs(right), abs(down)) >= TRAVEL:
        if abs(right) >= abs(down):
            return "moving from left to right" if right > 0 else "moving from right to left"
        return "moving downwards" if down > 0 else "moving upwards"
    growth = sizes[-ends:].mean() / max(sizes[:ends].mean(), 1e-9)
    if growth > 2 or growth < 0.5:
        return "coming closer" if growth > 2 else "moving away"
    wandered = np.abs(np.diff(middles, axis=0)).sum(axis=0).max()
    return "moving back and forth" if wandered >= 3 * TRAVEL else ""
