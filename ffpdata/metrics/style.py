"""Whether a stylized clip took the colours of its style image, and not of another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.models.classical.attributes import sample_frames

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]
    Floats = NDArray[np.float32]

STYLE = ("style_agreement",)
"""Columns of this module."""
APART = 6.0
"""Distance of source and style image, in Lab units, below which there is nothing to take over."""
DIRECTIONS = 16
"""Lines onto which colours are projected, the same every time."""
QUANTILES = 128
_FRAMES = 9


def style_agreement(source: Frames, target: Frames, reference: Frames) -> float | None:
    """How much of the way from the source's colours to the style image's the target went: 1 all of it, 0 none.

    Below 0 the target is farther from the style image than the source was: another image's style, or none.

    Args:
        source: uint8 (T, H, W, 3) RGB.
        target: of the same shape.
        reference: uint8 (h, w, 3) RGB.

    Returns:
        -1..1; None where source and style image have the same colours already.
    """
    before, after, wanted = (_projections(frames) for frames in (source, target, reference[None]))
    apart = float(np.abs(before - wanted).mean())
    if apart < APART:
        return None
    return float(np.clip(1 - np.abs(after - wanted).mean() / apart, -1, 1))


def _projections(frames: Frames) -> Floats:
    """Quantiles of the colours along fixed lines, float32 (DIRECTIONS, QUANTILES), Lab units.

    The mean distance of two of these is the sliced Wasserstein distance (Rabin et al., Wasserstein barycenter and its
    application to texture mixing, 2011): how far colours must move to become the other's.
    """
    small = np.stack(
        [cv2.resize(f, (64, 64), interpolation=cv2.INTER_AREA) for f in sample_frames(frames, count=_FRAMES)]
    )
    lab = cv2.cvtColor((small.reshape(-1, 64, 3) / 255).astype(np.float32), cv2.COLOR_RGB2Lab).reshape(-1, 3)
    lines = np.random.default_rng(0).standard_normal((3, DIRECTIONS)).astype(np.float32)
    lines /= np.linalg.norm(lines, axis=0)
    shares = np.linspace(0, 100, QUANTILES)
    return np.percentile(lab @ lines, shares, axis=0).T.astype(np.float32)
