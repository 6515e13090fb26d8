"""Clips whose frames carry their number as large black and white squares, which any codec and scale leaves readable."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ffpdata.media.ffmpeg import ffmpeg_exe

WIDTH, HEIGHT, BITS = 128, 72, 10
X264 = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")
_SIDE = 16
_SQUARES = [(8 + 24 * (bit % 5), 16 + 24 * (bit // 5)) for bit in range(BITS)]
"""Left and top of each bit's square, pixels."""


def frame(number: int, scene: int = 0) -> np.ndarray:
    """A frame, uint8 (72, 128, 3), with its number, 0 to 1023, on the moving background of a scene."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    waves = np.sin((x + 2 * number) / (5 + 4 * scene)) * np.cos(y / (17 - 6 * scene))
    picture = np.repeat((80 + 100 * scene + 50 * waves).clip(0, 255).astype(np.uint8)[..., None], 3, 2)
    for bit, (left, top) in enumerate(_SQUARES):
        picture[top : top + _SIDE, left : left + _SIDE] = 235 if number >> bit & 1 else 20
    return picture


def read_numbers(frames: np.ndarray) -> list[int]:
    """The numbers of frames, uint8 (T, H, W, 3) of any size that was neither cropped nor padded."""
    down, across = frames.shape[1] / HEIGHT, frames.shape[2] / WIDTH
    numbers = []
    for picture in frames:
        middles = (
            picture[
                int((top + 4) * down) : int((top + 12) * down), int((left + 4) * across) : int((left + 12) * across)
            ]
            for left, top in _SQUARES
        )
        numbers.append(sum(int(middle.mean() > 128) << bit for bit, middle in enumerate(middles)))
    return numbers


def write(path: Path, frames: Iterable[np.ndarray] | int, rate: float, *options: object) -> Path:
    """Encode frames (or so many numbered ones) at a rate with ffmpeg's options."""
    pictures = (frame(number) for number in range(frames)) if isinstance(frames, int) else frames
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", rate, "-i", "-")
    _ffmpeg(*raw, *options, path, feed=b"".join(picture.tobytes() for picture in pictures))
    return path


def remux(src: Path, dst: Path, *options: object, before: Iterable[object] = ()) -> Path:
    """Copy a clip's packets to another container."""
    _ffmpeg(*before, "-i", src, "-map", 0, "-c", "copy", *options, dst)
    return dst


def _ffmpeg(*args: object, feed: bytes = b"") -> None:
    subprocess.run([ffmpeg_exe(), "-v", "error", "-y", *map(str, args)], input=feed, check=True, timeout=60)
