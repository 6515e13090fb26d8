"""Moving pictures made of photographs, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ffpdata.media import codec


def write_pan(path: Path, photo: np.ndarray, frames: int, step: int, size: tuple[int, int] = (320, 240)) -> Path:
    """Move a window of `size` to and fro over a photograph by `step` pixels a frame, at 24 fps."""
    width, height = size
    room = photo.shape[1] - width
    clip = []
    for number in range(frames):
        x = number * step % (2 * room)
        x = min(x, 2 * room - x)
        clip.append(photo[60 : 60 + height, x : x + width])
    codec.write_video(path, np.stack(clip), 24)
    return path
