"""Labelled pictures and clips for the gates: photographs and clips of the sample packages, with something done to them.

Every generator is deterministic, and gives (picture or clip, label) one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.sample.photos import clip_frame, enlarge, locate, photo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]
    Frames = NDArray[np.uint8]

SCENES = ("astronaut", "chelsea", "coffee", "coins", "gravel", "motorcycle", "retina", "rocket")
"""Photographs without writing but for the flag and the name on the astronaut's suit, and faint words on the motorcycle."""
FONTS = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_TRIPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
WORDS = ("SAMPLE", "www.example.org", "(c) Studio 9", "Breaking News", "DO NOT COPY", "Episode 12")
PLACES = {"corner": (0.03, 0.94), "top": (0.6, 0.1), "middle": (0.35, 0.5), "subtitle": (0.25, 0.9)}


def framed(name: str, size: tuple[int, int], shift: float = 0.0) -> Image:
    """Return a photograph that covers a frame of `size` (width, height), moved to the right by a part of its width."""
    width, height = size
    image = photo(name)
    scale = max(1.25 * width / image.shape[1], 1.25 * height / image.shape[0])
    image = enlarge(image, round(image.shape[1] * scale))
    left = round(shift * (image.shape[1] - width))
    top = (image.shape[0] - height) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def scene_clip(name: str, size: tuple[int, int], frames: int, *, moves: bool) -> Frames:
    """Return a clip of a photograph, with a camera that pans or stands still: uint8 (T, H, W, 3)."""
    shifts = np.linspace(0.2, 0.8, frames) if moves else [0.5] * frames
    return np.stack([framed(name, size, float(shift)) for shift in shifts])


def write_on(frames: Frames, words: str, place: str, *, font: int, opacity: float, height: float = 0.05) -> Frames:
    """Lay white, outlined words over every frame.

    Args:
        frames: uint8 (T, H, W, 3).
        words: one line.
        place: of `PLACES`.
        font: of OpenCV's.
        opacity: 0..1.
        height: of the capitals, of the frame's.
    """
    tall, wide = frames.shape[1:3]
    scale = height * tall / 22  # capitals of OpenCV's fonts are 22 pixels high at scale 1
    stroke = max(1, round(scale * 1.6))
    x, y = PLACES[place]
    layer, alpha = np.zeros((tall, wide, 3), np.uint8), np.zeros((tall, wide), np.uint8)
    (text_wide, _), _ = cv2.getTextSize(words, font, scale, stroke)
    at = min(round(x * wide), max(0, wide - text_wide - 4)), round(y * tall)
    cv2.putText(alpha, words, at, font, scale, 255, stroke + 2, cv2.LINE_AA)
    cv2.putText(layer, words, at, font, scale, (255, 255, 255), stroke, cv2.LINE_AA)
    weight = (alpha.astype(np.float32) / 255 * opacity)[..., None]
    return np.stack([np.rint(f * (1 - weight) + layer * weight).astype(np.uint8) for f in frames])


def written_clips(size: tuple[int, int], frames: int, count: int) -> Iterator[tuple[Frames, str]]:
    """Yield clips with `overlay` or without: one with words laid over to every one without, half of them panning."""
    rng = np.random.default_rng(4)
    names = [name for name in SCENES if name not in {"astronaut"}]
    places = list(PLACES)
    for number in range(count):
        clip = scene_clip(names[number % len(names)], size, frames, moves=number // len(names) % 2 == 0)
        yield clip, ""
        words, font = WORDS[int(rng.integers(len(WORDS)))], FONTS[number % len(FONTS)]
        opacity, height = float(rng.choice([0.35, 0.6, 1.0])), float(rng.choice([0.035, 0.05, 0.08]))
        place = places[number % len(places)]
        yield write_on(clip, words, place, font=font, opacity=opacity, height=height), "overlay"


def carphone(frames: int) -> Frames:
    """Return a clip of a talking man in a car: uint8 (T, H, W, 3)."""
    import av

    path = locate("bikes").with_name("carphone_pristine.mp4")
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for _, frame in zip(range(frames), container.decode(video=0))]
    return np.stack(decoded)


__all__ = ["carphone", "clip_frame", "framed", "scene_clip", "write_on", "written_clips"]
