"""How well frames, or a clip, show what a text says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ffpdata.metrics.frame_consistency import unit_vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

VIDEO_SCALE = 100.0
"""Factor of the cosine of a clip and a text, as in EditVerse's evaluation: that of CLIP's own scores."""


def frame_text(frames: Floats, text: Floats, scale: float) -> float:
    """Mean over the frames of the cosine with the text, times the encoder's scale: about 20 to 30 by CLIP.

    Args:
        frames: vectors of the frames, (T, D).
        text: vector of the text, (D,).
        scale: exp(logit_scale) of the encoder, 100 for CLIP.
    """
    return float(scale * (unit_vectors(frames) @ unit_vectors(text[None])[0]).mean())


def video_text(clip: Floats, text: Floats) -> float:
    """Return the cosine of a clip's vector (D,) and a text's (D,), times 100: about 17 to 27 by ViCLIP."""
    return frame_text(clip[None], text, VIDEO_SCALE)
