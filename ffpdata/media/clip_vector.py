"""Vectors of clips as text in a manifest: eight bits a number, 0.7 KB for 512 of them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_LEVELS = 127


def vector_text(vector: NDArray[np.floating]) -> str:
    """Return a vector's direction as text; cosines keep three digits.

    Args:
        vector: float (D,).

    Returns:
        Base64 of D signed bytes, scaled so that the largest is 127; its length is lost.
    """
    largest = max(float(np.abs(vector).max()), 1e-12)
    return base64.b64encode(np.rint(vector / largest * _LEVELS).astype(np.int8).tobytes()).decode("ascii")


def parse_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return vectors of length 1, float32 (N, D), of texts of one length; raises ValueError where lengths differ."""
    rows = [np.frombuffer(base64.b64decode(text), np.int8) for text in texts]
    if not rows:
        return np.zeros((0, 0), np.float32)
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"vectors of different lengths: {sorted({len(row) for row in rows})}")
    found = np.array(rows, np.float32)
    return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9).astype(np.float32)
