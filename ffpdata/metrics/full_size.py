"""One pass over every frame at full size: errors outside the region, colours, detail, noise and blocking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]
    Masks = NDArray[np.bool_]
    Series = NDArray[np.float64]
    Image = NDArray[np.float32]

WINDOW = 7
"""Side of the structural similarity's window, and its constants below: those of the original definition, with a uniform
window as scikit-image has it."""
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
BLOCKS = (4, 8, 16)
"""Sides of the blocks that coders and enlarged pictures leave."""
_NOISE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
"""Immerkaer's mask (1996): blind to edges and slopes; on noise of deviation s its mean response is 6 s sqrt(2/pi)."""
_TILE = 16
"""Side of the tiles, in pixels, of which the calmest tell the noise."""


@dataclass(frozen=True)
class FullSize:
    """Numbers of every frame, float64 (T,) where not said otherwise; NaN where nothing is outside the region.

    Attributes:
        error: mean squared difference of source and target outside, levels of 255 squared.
        similarity: structural similarity outside, at most 1; NaN for a stylization.
        colour: mean RGB outside of source and target, (2, T, 3).
        fine, coarse: mean absolute second derivative outside at full and at half size, (2, T), source first.
        noise: standard deviation of the noise in the calmest tiles, (2, T), levels of 255.
        blocking: ratio of the steps on a grid of blocks to those beside it, the worst of `BLOCKS`, (2, T); 1 is none.
    """

    error: Series
    similarity: Series
    colour: Series
    fine: Series
    coarse: Series
    noise: Series
    blocking: Series


def measure_full_size(source: Frames, target: Frames, region: Masks | None, rim: int) -> FullSize:
    """Measure every frame of a pair.

    Args:
        source: uint8 (T, H, W, 3) RGB.
        target: of the same shape.
        region: bool (T, H, W), what the edit may repaint; None for the whole picture.
        rim: pixels around the region that count neither as inside nor as outside.
    """
    count = len(source)
    error, similarity = np.full(count, np.nan), np.full(count, np.nan)
    colour = np.full((2, count, 3), np.nan)
    fine, coarse, noise, blocking = (np.full((2, count), np.nan) for _ in range(4))
    kernel = np.ones((2 * rim + 1, 2 * rim + 1), np.uint8)
    for t in range(count):
        where = None
        if region is not None:
            # uint8, 255 where the pixel counts: what OpenCV takes as a mask
            where = cv2.dilate(np.ascontiguousarray(region[t]).view(np.uint8), kernel)
            where = np.where(where == 0, np.uint8(255), np.uint8(0))
            if not where.any():
                continue
        pixels = source[t].shape[0] * source[t].shape[1] if where is None else int(cv2.countNonZero(where))
        error[t] = cv2.norm(source[t], target[t], cv2.NORM_L2SQR, where) / (3 * pixels)
        grays = [cv2.cvtColor(frame[t], cv2.COLOR_RGB2GRAY) for frame in (source, target)]
        if where is not None:
            inner = cv2.erode(where, np.ones((WINDOW, WINDOW), np.uint8))
            if inner.any():
                similarity[t] = cv2.mean(structural_similarity(*grays), inner)[0]
        halved = None if where is None else where[: where.shape[0] // 2 * 2 : 2, : where.shape[1] // 2 * 2 : 2]
        for side, (frame, plain) in enumerate(zip((source[t], target[t]), grays, strict=True)):
            colour[side, t] = cv2.mean(frame, where)[:3]
            fine[side, t] = _bend(plain, where)
            half = cv2.resize(plain, (plain.shape[1] // 2, plain.shape[0] // 2), interpolation=cv2.INTER_AREA)
            coarse[side, t] = _bend(half, None if halved is None else np.ascontiguousarray(halved))
            noise[side, t] = _noise(plain)
            blocking[side, t] = _blocking(plain)
    return FullSize(error, similarity, colour, fine, coarse, noise, blocking)


def structural_similarity(first: Frames, second: Frames) -> Image:
    """Return the map of the structural similarity (Wang et al. 2004) of two grey pictures, uint8 (H, W): float32."""
    a, b = first.astype(np.float32), second.astype(np.float32)
    size = (WINDOW, WINDOW)
    mean_a, mean_b = cv2.boxFilter(a, -1, size), cv2.boxFilter(b, -1, size)
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    aa, bb, ab = (
        cv2.addWeighted(cv2.boxFilter(cv2.multiply(x, y), -1, size), unbiased, cv2.multiply(mx, my), -unbiased, 0)
        for x, y, mx, my in ((a, a, mean_a, mean_a), (b, b, mean_b, mean_b), (a, b, mean_a, mean_b))
    )
    product = cv2.multiply(mean_a, mean_b)
    squares = cv2.add(cv2.multiply(mean_a, mean_a), cv2.multiply(mean_b, mean_b))
    top = (2 * product + _C1) * (2 * ab + _C2)
    return top / ((squares + _C1) * (aa + bb + _C2))


def _bend(plain: Frames, where: Frames | None) -> float:
    """Mean absolute second derivative, levels of 255."""
    return float(cv2.mean(cv2.convertScaleAbs(cv2.Laplacian(plain, cv2.CV_16S)), where)[0])


def _noise(plain: Frames) -> float:
    height, width = plain.shape
    response = np.abs(cv2.filter2D(plain, cv2.CV_32F, _NOISE))
    tiles = (max(1, width // _TILE), max(1, height // _TILE))
    calm = np.sort(cv2.resize(response, tiles, interpolation=cv2.INTER_AREA), axis=None)
    return float(calm[: max(1, len(calm) // 10)].mean() / (6 * np.sqrt(2 / np.pi)))


def _blocking(plain: Frames) -> float:
    """The steps between neighbours in columns and rows, on the grid against beside it; the worst size of block."""
    worst = 1.0
    for axis in (0, 1):
        shifted = (plain[1:], plain[:-1]) if axis == 0 else (plain[:, 1:], plain[:, :-1])
        steps = cv2.reduce(cv2.absdiff(*shifted), 1 - axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel()
        places = np.arange(1, len(steps) + 1)
        for side in BLOCKS:
            on = places % side == 0
            beside = (places % side == 1) | (places % side == side - 1)  # the nearest: content changes
            if on.sum() >= 4:
                worst = max(worst, float((steps[on].mean() + 0.25) / (steps[beside].mean() + 0.25)))
    return worst
