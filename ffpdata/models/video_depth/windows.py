"""Windows of 32 frames over a clip of any length: the frames of each window, and the joining of their maps.

After upstream's `video_depth_anything/video_depth.py` and `utils/util.py`. Each window but the first starts with ten
frames of the previous one: its first frame, one of its middle and its last eight. Relative depth has no fixed scale, so
that a window is fitted to the previous ones on the first two of these frames, and blended on the last eight.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Maps = NDArray[np.float32]

WINDOW = 32
"""Frames per window, as in the network's training."""

OVERLAP = (0, 12, *range(24, 32))
"""Positions in a window whose frames start the next one: two key frames and the last eight."""

STRIDE = WINDOW - len(OVERLAP)
KEYS = 2
"""Number of overlapping frames for the fit of the scale; the others are blended."""


def window_frames(count: int) -> list[list[int]]:
    """Return the frame numbers of each window of a clip of `count` frames; the last frame is repeated as padding.

    A window that would add no frame is left out.
    """
    windows: list[list[int]] = []
    for start in range(0, max(1, count - KEYS), STRIDE):
        frames = [min(start + place, count - 1) for place in range(WINDOW)]
        if windows:
            frames[: len(OVERLAP)] = [windows[-1][place] for place in OVERLAP]
        windows.append(frames)
    return windows


def join(windows: Iterable[Maps], count: int) -> Maps:
    """Join the windows' maps.

    Args:
        windows: float32 (32, H, W) each, >= 0, in order, as many as `window_frames(count)` has.
        count: frames of the clip.

    Returns:
        float32 (count, H, W), >= 0, in the scale of the first window.
    """
    out: Maps | None = None
    keys: list[Maps] = []
    for number, maps in enumerate(windows):
        start = number * STRIDE
        if out is None:
            out = np.empty((count, *maps.shape[1:]), np.float32)
            out[:WINDOW] = maps[:count]
            keys = [maps[place].copy() for place in OVERLAP[:KEYS]]
            continue
        scale, shift = fit(maps[:KEYS], np.stack(keys))
        fitted = np.maximum(maps * scale + shift, 0)
        blended = range(KEYS, len(OVERLAP))
        for place in range(KEYS, min(WINDOW, count - start)):
            share = np.float32((place - KEYS) / (len(blended) - 1)) if place in blended else np.float32(1)
            before = out[start + place] * (1 - share) if share < 1 else np.float32(0)
            out[start + place] = before + share * fitted[place]
        keys[1:] = [fitted[place].copy() for place in OVERLAP[1:KEYS]]
    if out is None:
        raise ValueError("no window to join")
    return out


def fit(maps: Maps, target: Maps) -> tuple[np.float32, np.float32]:
    """Return scale and shift of the least-squares fit of `maps` to `target`; 1 and 0 where the maps are constant."""
    x, y = maps.ravel().astype(np.float64), target.ravel().astype(np.float64)
    spread = x - x.mean()
    variance = float(spread @ spread)
    if not variance:
        return np.float32(1), np.float32(0)
    scale = float(spread @ y) / variance
    return np.float32(scale), np.float32(y.mean() - scale * x.mean())
