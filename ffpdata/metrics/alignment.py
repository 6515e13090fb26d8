"""Shifts of the target against the source in the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.metrics.metric import Metric
from ffpdata.metrics.pair import blur

if TYPE_CHECKING:
    from ffpdata.metrics.pair import Floats, Pair, Series

ROUNDS = 4
"""Least-squares steps; each begins from the shift found before."""
SOFT = (3.0, 1.5, 1.0, 1.0)
"""Blur of each step, pixels of a small frame: a wide one finds large shifts."""


def misalignment(pair: Pair) -> float | None:
    """Median shift of the target against the source, where nothing was edited, in pixels of the clip."""
    shifts = pair.once(_shifts)
    return float(np.linalg.norm(np.median(shifts, axis=0))) if len(shifts) else None


def misalignment_worst(pair: Pair) -> float | None:
    """Largest shift of a frame against the clip's median shift, in pixels of the clip."""
    shifts = pair.once(_shifts)
    return float(np.linalg.norm(shifts - np.median(shifts, axis=0), axis=1).max()) if len(shifts) else None


def _shifts(pair: Pair) -> Series:
    first, second = pair.edges if pair.whole else pair.gray
    shifts = [_shift(a, b, where) for a, b, where in zip(first, second, pair.outside, strict=True) if where.any()]
    return np.array(shifts) * pair.scale


def _shift(first: Floats, second: Floats, where: np.ndarray) -> tuple[float, float]:
    """Shift (x, y) of `second` against `first`, pixels, by least squares on their slopes (Lucas and Kanade)."""
    x = y = 0.0
    for sigma in SOFT:
        a, b = blur(first, sigma), blur(second, sigma)
        b = cv2.warpAffine(
            b,
            np.float32([[1, 0, x], [0, 1, y]]),
            b.shape[::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        across, down = (cv2.Sobel(a, cv2.CV_32F, dx, dy, ksize=3)[where] / 8 for dx, dy in ((1, 0), (0, 1)))
        difference = (a - b)[where]
        difference -= difference.mean()
        system = np.array([[across @ across, across @ down], [across @ down, down @ down]], np.float64)
        system += np.eye(2) * (1e-3 * len(difference) + 1e-9)
        step = np.linalg.solve(system, np.array([across @ difference, down @ difference], np.float64))
        x, y = x + float(np.clip(step[0], -4, 4)), y + float(np.clip(step[1], -4, 4))
    return x, y


METRICS = (
    Metric(misalignment, "pixels", "lower", 0, 100),
    Metric(misalignment_worst, "pixels", "lower", 0, 100),
)
