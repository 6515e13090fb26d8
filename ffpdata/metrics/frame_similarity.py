"""How alike the frames of a clip are to those of another one, or to a picture (LoRA-Edit's measures)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ffpdata.metrics.frame_consistency import unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]


def input_similarity(source: Floats, target: Floats) -> float | None:
    """Mean cosine of each edited frame with the same frame of the source; None where there are not as many of both.

    Args:
        source: vectors of its frames, (T, D).
        target: likewise, (T, D).
    """
    if len(source) != len(target) or not len(source):
        return None
    return float(np.einsum("td,td->t", unit_vectors(source), unit_vectors(target)).mean())


def first_frame_similarity(frames: Floats, first: Floats) -> tuple[float, float | None]:
    """Mean cosine of the frames with the edited first frame: over all of them, and without frame 0.

    LoRA-Edit does not say whether frame 0, which a model is given, counts: so both. The second is None for one frame.

    Args:
        frames: vectors of the frames, (T, D).
        first: vector of the edited first frame, (D,).
    """
    found = unit_vectors(frames) @ unit_vectors(first[None])[0]
    return float(found.mean()), float(found[1:].mean()) if len(found) > 1 else None
