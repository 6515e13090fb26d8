"""What changed where nothing may: errors outside the region, in every frame. None for edits of the whole picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.media.metrics import PSNR_MAX
from ffpdata.metrics.metric import Metric

if TYPE_CHECKING:
    from ffpdata.metrics.pair import Pair, Series

PATCHES = 48
"""Patches along the width of the picture on which a spill is looked for: a spill is a place, noise is everywhere."""


def psnr_outside_mean(pair: Pair) -> float | None:
    """PSNR outside the region at full size, mean over the frames."""
    return _over(_psnr(pair), np.mean)


def psnr_outside_worst(pair: Pair) -> float | None:
    """PSNR outside the region at full size in the worst frame."""
    return _over(_psnr(pair), np.min)


def psnr_outside_p5(pair: Pair) -> float | None:
    """PSNR outside the region at full size, 5th percentile of the frames."""
    return _over(_psnr(pair), lambda values: np.percentile(values, 5))


def psnr_outside_dip(pair: Pair) -> float | None:
    """How far the PSNR of the worst frame lies below the clip's median: one bad frame, whatever the codec or VAE."""
    return _over(_psnr(pair), lambda values: np.median(values) - np.min(values))


def ssim_outside(pair: Pair) -> float | None:
    """Structural similarity outside the region at full size, mean over the frames."""
    return _over(_ssim(pair), np.mean)


def ssim_outside_worst(pair: Pair) -> float | None:
    """Structural similarity outside the region at full size in the worst frame."""
    return _over(_ssim(pair), np.min)


def ssim_outside_p5(pair: Pair) -> float | None:
    """Structural similarity outside the region at full size, 5th percentile of the frames."""
    return _over(_ssim(pair), lambda values: np.percentile(values, 5))


def spill(pair: Pair) -> float | None:
    """Change of the most changed patches outside the region (1 of 200), mean over the frames."""
    return _over(pair.once(_spills), np.mean)


def spill_worst(pair: Pair) -> float | None:
    """Change of the most changed patches outside the region (1 of 200) in the worst frame."""
    return _over(pair.once(_spills), np.max)


def _psnr(pair: Pair) -> Series:
    if pair.whole:
        return np.array([])
    error = pair.full.error[np.isfinite(pair.full.error)]
    return np.minimum(PSNR_MAX, 10 * np.log10(255.0**2 / np.maximum(error, 1e-9)))


def _ssim(pair: Pair) -> Series:
    return pair.full.similarity[np.isfinite(pair.full.similarity)]


def _spills(pair: Pair) -> Series:
    """Change of the patches at the 99.5th percentile of each frame, signed differences averaged within a patch."""
    if pair.whole:
        return np.array([])
    height, width = pair.gray[0].shape[1:]
    size = (min(width, PATCHES), max(1, round(min(width, PATCHES) * height / width)))
    found = []
    for t, where in enumerate(pair.outside):
        difference = pair.small[1][t].astype(np.float32) - pair.small[0][t]
        difference[~where] = 0
        share = cv2.resize(where.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        patches = cv2.resize(difference, size, interpolation=cv2.INTER_AREA)
        kept = share > 0.25
        if kept.any():
            found.append(np.percentile(np.abs(patches[kept]).max(-1) / share[kept], 99.5))
    return np.array(found)


def _over(values: Series, how: object) -> float | None:
    return float(how(values)) if len(values) else None  # type: ignore[operator]


METRICS = (
    Metric(psnr_outside_mean, "dB", "higher", 0, PSNR_MAX),
    Metric(psnr_outside_worst, "dB", "higher", 0, PSNR_MAX),
    Metric(psnr_outside_p5, "dB", "higher", 0, PSNR_MAX),
    Metric(psnr_outside_dip, "dB", "lower", 0, PSNR_MAX),
    Metric(ssim_outside, "none", "higher", -1, 1),
    Metric(ssim_outside_worst, "none", "higher", -1, 1),
    Metric(ssim_outside_p5, "none", "higher", -1, 1),
    Metric(spill, "grey levels", "lower", 0, 255),
    Metric(spill_worst, "grey levels", "lower", 0, 255),
)
