"""Halos and seams: changes along the contours of the object and of the repainted region."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.metrics.metric import Metric
from ffpdata.metrics.pair import LEAST_PIXELS, grow

if TYPE_CHECKING:
    from ffpdata.metrics.pair import Masks, Pair, Series

BAND, GAP, BESIDE = 2, 5, 9
"""Pixels of a small frame: width of a band beside a contour, and where the surroundings begin and end."""
SOFT = 0.5
"""Most that a soft edge changes the band outside a contour, against the band inside it."""


def halo(pair: Pair) -> float | None:
    """Change in a narrow band outside the contour beyond its surroundings, mean over the frames; local edits."""
    values = pair.once(_halos)
    return float(values.mean()) if len(values) else None


def halo_worst(pair: Pair) -> float | None:
    """Change in the band outside the contour beyond its surroundings in the worst tenth of the frames; local edits."""
    values = pair.once(_halos)
    return float(np.percentile(values, 90)) if len(values) else None


def halo_excess(pair: Pair) -> float | None:
    """Change outside the contour beyond what a soft edge makes, in the worst tenth of the frames; local edits.

    A soft edge falls off across the contour, so that the band outside changes at most `SOFT` as much as the one inside;
    what is drawn around an object changes more.
    """
    values = pair.once(_halo_excesses)
    return float(np.percentile(values, 90)) if len(values) else None


def seam(pair: Pair) -> float | None:
    """Slope across the region's border in the target beyond the source's, mean over the frames; local edits."""
    if pair.whole:
        return None
    found = []
    for t, region in enumerate(pair.repainted):
        border = grow(region, 1) & ~_shrink(region, 1)
        if border.sum() >= LEAST_PIXELS:
            before, after = (_slope(clip[t]) for clip in pair.gray)
            found.append(float(after[border].mean() - before[border].mean()))
    return float(np.mean(found)) if found else None


def _halos(pair: Pair) -> Series:
    return _most(pair, lambda outside, inside: outside)  # noqa: ARG005


def _halo_excesses(pair: Pair) -> Series:
    return _most(pair, lambda outside, inside: outside - SOFT * max(0.0, inside))


def _most(pair: Pair, measure: Callable[[float, float], float]) -> Series:
    """Of every frame, the larger one of what is measured along the object's and along the region's contour."""
    if pair.whole:
        return np.array([])
    return np.array([max(measure(*both) for both in contours) for contours in pair.once(_contours) if contours])


def _contours(pair: Pair) -> list[list[tuple[float, float]]]:
    """Of every frame, the changes beyond the surroundings' outside and inside of each contour, in grey levels."""
    found = []
    for t in range(len(pair)):
        difference = cv2.absdiff(pair.gray[0][t], pair.gray[1][t])
        values = [_along(difference, mask[t]) for mask in (pair.edited, pair.repainted)]
        found.append([value for value in values if value is not None])
    return found


def _along(difference: np.ndarray, mask: Masks) -> tuple[float, float] | None:
    if not mask.any() or mask.all():
        return None
    band, beside = grow(mask, BAND) & ~mask, grow(mask, BESIDE) & ~grow(mask, GAP)
    if band.sum() < LEAST_PIXELS or beside.sum() < LEAST_PIXELS:
        return None
    rest = float(difference[beside].mean())
    inside = mask & ~_shrink(mask, BAND)
    return float(difference[band].mean()) - rest, float(difference[inside].mean()) - rest


def _slope(plain: np.ndarray) -> np.ndarray:
    return np.hypot(cv2.Sobel(plain, cv2.CV_32F, 1, 0), cv2.Sobel(plain, cv2.CV_32F, 0, 1)) / 8


def _shrink(mask: Masks, px: int) -> Masks:
    return ~grow(~mask, px)


METRICS = (
    Metric(halo, "grey levels", "lower", -255, 255),
    Metric(halo_worst, "grey levels", "lower", -255, 255),
    Metric(halo_excess, "grey levels", "lower", -255, 255),
    Metric(seam, "grey levels a pixel", "lower", -255, 255),
)
