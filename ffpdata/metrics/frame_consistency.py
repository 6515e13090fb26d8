"""How alike neighbouring frames are to an encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]


def frame_consistency(vectors: Floats) -> float | None:
    """Mean cosine of each frame with the one before, negative ones as 0: 1 where nothing moves; None below 2 frames.

    The definition of EditVerse's evaluation, and of wenhao728/awesome-diffusion-v2v before it. It rewards clips that do
    not move: read it beside the source's own.

    Args:
        vectors: of the frames, (T, D), of any length but 0.
    """
    if len(vectors) < 2:
        return None
    found = unit_vectors(vectors)
    return float(np.clip(np.einsum("td,td->t", found[1:], found[:-1]), 0, 1).mean())


def unit_vectors(vectors: Floats) -> NDArray[np.float64]:
    """Return vectors (T, D) at length 1.

    Raises:
        ValueError: one has no length, or is not finite: an encoder that overflows says nothing.
    """
    exact = np.asarray(vectors, np.float64)
    lengths = np.linalg.norm(exact, axis=-1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError("a vector has no length, or is not finite: set the encoder's dtype to float32")
    scaled: NDArray[np.float64] = exact / lengths
    return scaled
