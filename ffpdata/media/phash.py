"""Perceptual hashes of clips: what curation compares to find near-duplicates."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]

HASH_BITS = 64
"""Bits of one frame's hash: imagehash's default of 8x8 low frequencies."""

HASHED_FRAMES = 3
"""First, middle and last frame. Measured on real clips: copies differ in at most 10 bits of 64, different clips in at
least 22."""


class ClipHashes(NamedTuple):
    """Hashes of a clip's first, middle and last frame, 16 hex digits each.

    Attributes:
        upright: of the frames as they are.
        mirrored: of the frames flipped left to right, so that a mirrored copy is found by comparing it with `upright`
            of the other clip.
    """

    upright: list[str]
    mirrored: list[str]


def clip_hashes(frames: Frames) -> ClipHashes:
    """Hash a clip's first, middle and last frame.

    Args:
        frames: uint8 (T, H, W, 3) RGB, T >= 1.
    """
    chosen = [frames[i] for i in (0, len(frames) // 2, len(frames) - 1)]
    return ClipHashes([_phash(f) for f in chosen], [_phash(f[:, ::-1]) for f in chosen])


def _phash(image: NDArray[np.uint8]) -> str:
    import imagehash
    from PIL import Image

    return str(imagehash.phash(Image.fromarray(np.ascontiguousarray(image))))
