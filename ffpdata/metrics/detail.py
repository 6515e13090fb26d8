"""Sharpness, noise and blocks of the target against the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.metrics.metric import Metric
from ffpdata.metrics.pair import LEAST_PIXELS, blur, grow

if TYPE_CHECKING:
    from ffpdata.metrics.pair import Floats, Pair, Series

CRISP_FRAMES = 10
"""Frames in which edges are looked at: blur is in all of them, and they are of full size."""
EDGE_WIDTH = 2.0
"""Pixels by which edges are softened for the comparison."""


def sharpness(pair: Pair) -> float | None:
    """Fine detail over coarse detail of the target against the source, where nothing was edited; 1 is as sharp."""
    values = _sharpness(pair)
    return float(np.median(values)) if len(values) else None


def sharpness_worst(pair: Pair) -> float | None:
    """Sharpness of the least sharp frame against the clip's median."""
    values = _sharpness(pair)
    return float(values.min() / max(np.median(values), 1e-6)) if len(values) else None


def sharpness_inside(pair: Pair) -> float | None:
    """Detail within the edit against the source's there, of a removal against what is around it; local edits only."""
    if pair.whole:
        return None
    found = []
    for t, where in enumerate(pair.edited):
        inner = ~grow(~where, 2)
        ring = grow(where, 12) & ~grow(where, 3)
        if inner.sum() < 4 * LEAST_PIXELS or ring.sum() < LEAST_PIXELS:
            continue
        before, after = (np.abs(cv2.Laplacian(clip[t], cv2.CV_32F)) for clip in pair.gray)
        usual = after[ring].mean() if pair.removes else before[inner].mean()
        found.append(float((after[inner].mean() + 1) / (usual + 1)))
    return float(np.median(found)) if found else None


def smear(pair: Pair) -> float | None:
    """Ratio of detail across and down within the edit against the source's, or what is around a removal; 1 is alike."""
    found = []
    for t, where in enumerate(pair.edited):
        ring = grow(where, 12) & ~grow(where, 3) if pair.removes else where
        if min(where.sum(), ring.sum()) < 4 * LEAST_PIXELS:
            continue
        before, after = (
            _across_over_down(clip[t], place) for clip, place in zip(pair.gray, (ring, where), strict=True)
        )
        found.append(min(before / after, after / before))
    return float(np.median(found)) if found else None


def crispness(pair: Pair) -> float | None:
    """Steepness of the target's strongest edges against the same edges softened by 2 pixels; stylizations only.

    A style may take detail away or bring some, so that the source's tells nothing of blur; contours stay contours. An
    edge of width s has sqrt(s^2 + 4) / s: 3 where it is as sharp as a coder leaves it, 1.4 where it is 2 pixels wide.
    """
    if not pair.whole:
        return None
    found = []
    for frame in pair.target[:: max(1, len(pair) // CRISP_FRAMES)]:
        gray = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        fine, wide = _steepness(gray), _steepness(blur(gray, EDGE_WIDTH))
        where = (wide >= np.percentile(wide, 95)) & (cv2.dilate(wide, np.ones((5, 5), np.uint8)) <= wide + 1e-3)
        if where.any() and wide[where].min() > 1e-3:
            found.append(float(np.median(fine[where] / wide[where])))
    return float(np.median(found)) if found else None


def noise(pair: Pair) -> float | None:
    """Noise of the target's calm places beyond the source's, mean over the frames."""
    before, after = pair.full.noise
    return _mean(after - before)


def blocking(pair: Pair) -> float | None:
    """Steps on a grid of blocks over those beside it, target over source, mean over the frames; 1 is none added."""
    before, after = pair.full.blocking
    return _mean(after / before)


def _steepness(gray: Floats) -> Floats:
    return np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1))


def _across_over_down(plain: np.ndarray, where: np.ndarray) -> float:
    mask = where.astype(np.uint8)
    across, down = (cv2.mean(cv2.absdiff(plain, cv2.blur(plain, size)), mask)[0] + 0.5 for size in ((3, 1), (1, 3)))
    return across / down


def _sharpness(pair: Pair) -> Series:
    ratio = (pair.full.fine + 0.05) / (pair.full.coarse + 0.05)
    values = ratio[1] / ratio[0]
    return values[np.isfinite(values)]


def _mean(values: Series) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


METRICS = (
    Metric(sharpness, "ratio", "neither", 0, 20),
    Metric(sharpness_worst, "ratio", "higher", 0, 1),
    Metric(sharpness_inside, "ratio", "neither", 0, 20),
    Metric(smear, "ratio", "higher", 0, 1),
    Metric(crispness, "ratio", "higher", 0, 20),
    Metric(noise, "grey levels", "lower", -255, 255),
    Metric(blocking, "ratio", "lower", 0, 20),
)
