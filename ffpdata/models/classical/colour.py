"""Colour names of pixels, by hue and by lightness and chroma in CIE Lab."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Lab = tuple[float, float, float]

NAMES = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "black", "white", "grey")
"""Names that pixels may get: the basic colour terms, and cyan."""

_HUES = ((14, "red"), (40, "orange"), (66, "yellow"), (160, "green"), (197, "cyan"), (255, "blue"), (300, "purple"))
"""Upper bounds, in degrees of HSV hue, of each name; from the last bound to 346 is pink, then red again."""

_GREY_CHROMA = 11.0
"""Lab chroma below which a pixel is black, grey or white."""

_MAX_SAMPLES = 20_000


def to_lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Convert uint8 RGB (..., 3) to float32 CIE Lab (..., 3): L in 0..100, a and b about -127..127."""
    flat = np.ascontiguousarray(rgb).reshape(-1, 1, 3).astype(np.float32) / np.float32(255)
    return cv2.cvtColor(flat, cv2.COLOR_RGB2Lab).reshape(rgb.shape)


def to_rgb(lab: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Convert float32 CIE Lab (..., 3) to uint8 RGB, clipped to what a screen can show."""
    flat = np.ascontiguousarray(lab, dtype=np.float32).reshape(-1, 1, 3)
    rgb = cv2.cvtColor(flat, cv2.COLOR_Lab2RGB).reshape(lab.shape)
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)


def name_pixels(rgb: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Name every pixel of a uint8 (N, 3) RGB array: indices (N,) into `NAMES`."""
    lab = to_lab(rgb)
    light, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    hsv = cv2.cvtColor(rgb.reshape(-1, 1, 3).astype(np.float32) / np.float32(255), cv2.COLOR_RGB2HSV)[:, 0]
    hue, saturation = hsv[:, 0], hsv[:, 1]

    bounds = np.array([bound for bound, _ in _HUES] + [346.0, 361.0])
    order = np.array([NAMES.index(n) for _, n in _HUES] + [NAMES.index("pink"), NAMES.index("red")])
    found = order[np.searchsorted(bounds, hue, side="right")]

    warm = (hue >= 8) & (hue < 50) & ~((hue < 15) & (saturation > 0.6))  # a saturated dark red stays red
    found[warm & ((light < 56) | ((chroma < 38) & (light < 80)))] = NAMES.index("brown")
    found[(hue >= 10) & (hue < 15) & (saturation > 0.6) & (light >= 50)] = NAMES.index("orange")
    reddish = (hue >= 320) | (hue < 14)
    found[reddish & (light > 62) & (chroma < 60)] = NAMES.index("pink")
    found[(hue >= 300) & (hue < 330) & (light < 42)] = NAMES.index("purple")

    grey = (chroma < _GREY_CHROMA) | ((light < 18) & (chroma < 22)) | (light < 8) | (light > 97)
    found[grey] = NAMES.index("grey")
    found[grey & (light < 26)] = NAMES.index("black")
    found[grey & (light > 80)] = NAMES.index("white")
    return found


def dominant_colour(pixels: NDArray[np.uint8]) -> tuple[str, Lab]:
    """Return the most frequent colour of an object.

    Args:
        pixels: uint8 (..., 3) RGB, at least one pixel; at most `_MAX_SAMPLES`, evenly spaced, are used.

    Returns:
        A name of `NAMES`, and the median CIE Lab of the pixels that have it.

    Raises:
        ValueError: there is no pixel.
    """
    flat = pixels.reshape(-1, 3)
    if not len(flat):
        raise ValueError("dominant_colour needs at least one pixel, got none")
    flat = flat[:: max(1, len(flat) // _MAX_SAMPLES)]
    names = name_pixels(flat)
    best = int(np.bincount(names, minlength=len(NAMES)).argmax())
    light, green_red, blue_yellow = np.median(to_lab(flat[names == best]), axis=0)
    return NAMES[best], (float(light), float(green_red), float(blue_yellow))
