"""Cheap metrics of a pair of clips: change, colour drift, edge structure and motion, on subsampled small frames."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.media.shrink import shrunk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]
    Masks = NDArray[np.bool_]

PSNR_MAX = 100.0
"""PSNR of identical pictures, in dB: manifests hold finite numbers only."""

MEASURE_HEIGHT = 360
"""Short side at which differences are measured."""


def evenly_spaced(length: int, count: int) -> list[int]:
    """Return the indices of at most `count` of `length` frames, evenly spaced, first and last among them."""
    return [int(t) for t in np.unique(np.linspace(0, length - 1, min(count, length)).round())]


def subsample(frames: NDArray, step: int = 4, short_side: int = MEASURE_HEIGHT) -> NDArray:
    """Return every `step`-th frame, shrunk so that the short side is at most `short_side`.

    Args:
        frames: uint8 (T, H, W, 3) or bool (T, H, W).
        step: distance between the kept frames; the first is always kept.
        short_side: pixels.

    Returns:
        The same dtype; masks by nearest neighbour.
    """
    height, width = frames.shape[1:3]
    scale = min(1.0, short_side / min(height, width))
    return shrunk(frames[::step], max(1, round(width * scale)), max(1, round(height * scale)))


def psnr(first: Frames, second: Frames, where: Masks | None = None) -> float:
    """Return the peak signal-to-noise ratio over the pixels of `where`, in dB; `PSNR_MAX` without any."""
    total, count = 0.0, 0
    for i in range(len(first)):
        difference = first[i].astype(np.float32) - second[i].astype(np.float32)
        square = (difference**2).mean(-1)
        total += float(square.sum() if where is None else square[where[i]].sum())
        count += square.size if where is None else int(where[i].sum())
    if not count or total == 0:
        return PSNR_MAX
    return float(min(PSNR_MAX, 10 * np.log10(255.0**2 / (total / count))))


def mean_change(first: Frames, second: Frames, where: Masks | None = None) -> float:
    """Return the mean absolute difference over the pixels of `where`, levels of 255; 0 where there are none."""
    total, count = 0.0, 0
    for i in range(len(first)):
        difference = cv2.absdiff(first[i], second[i]).mean(-1)
        total += float(difference.sum() if where is None else difference[where[i]].sum())
        count += difference.size if where is None else int(where[i].sum())
    return total / count if count else 0.0


def colour_drift(first: Frames, second: Frames, where: Masks | None = None) -> float:
    """Return the CIE76 distance between the mean Lab colours of the pixels of `where`; 0 where there are none."""
    means = []
    for frames in (first, second):
        total, count = np.zeros(3), 0
        for i in range(len(frames)):
            pixels = frames[i].reshape(-1, 3) if where is None else frames[i][where[i]]
            total, count = total + pixels.sum(0, dtype=np.float64), count + len(pixels)
        if not count:
            return 0.0
        mean = (total / count / 255).astype(np.float32).reshape(1, 1, 3)
        means.append(cv2.cvtColor(mean, cv2.COLOR_RGB2Lab))
    return float(np.linalg.norm(means[0] - means[1]))


def structure(first: Frames, second: Frames) -> float:
    """Return the mean correlation of the two clips' edge maps, -1..1: high where the scene's layout was kept."""
    scores = []
    for a, b in zip(first, second, strict=True):
        edges = [_edges(frame) for frame in (a, b)]
        deviations = [e.std() for e in edges]
        if min(deviations) > 1e-6:
            covariance = ((edges[0] - edges[0].mean()) * (edges[1] - edges[1].mean())).mean()
            scores.append(float(covariance / np.prod(deviations)))
    return float(np.mean(scores)) if scores else 0.0


def _edges(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    gray = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.5)
    return cv2.GaussianBlur(np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)), (0, 0), 2)


def motion(frames: Frames) -> float:
    """Return the mean absolute change between neighbouring frames, levels of 255; 0 for a still."""
    grays = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    changes = [float(cv2.absdiff(a, b).mean()) for a, b in pairwise(grays)]
    return float(np.mean(changes)) if changes else 0.0
