"""Clips, masks and maps at a smaller size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def shrunk(frames: NDArray, width: int, height: int) -> NDArray:
    """Return the same frames at another size: pictures and maps by the mean over an area, masks by nearest neighbour.

    Args:
        frames: uint8 (T, H, W, 3), uint8 (T, H, W) or bool (T, H, W).
        width: of the result, pixels.
        height: likewise.

    Returns:
        The same dtype, (T, height, width) or (T, height, width, 3).
    """
    if frames.shape[1:3] == (height, width):
        return frames
    if frames.dtype == np.bool_:
        plain = (np.ascontiguousarray(frame).view(np.uint8) for frame in frames)
        small = [cv2.resize(frame, (width, height), interpolation=cv2.INTER_NEAREST) for frame in plain]
        return np.stack(small).astype(bool)
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames])


def scaled(image: NDArray, scale: float) -> NDArray:
    """Return one picture, uint8 (H, W, 3), with its sides times `scale`."""
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    found: NDArray = shrunk(image[None], width, height)[0]
    return found
