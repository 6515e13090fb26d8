"""Labelled pictures and clips for the gates: photographs and clips of the sample packages, with something done to them.

Every generator is deterministic, and gives (picture or clip, label) one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING

import cv2
import numpy as np

from ffpdata.sample.photos import clip_frame, enlarge, locate, photo
from ffpdata.sample.scenes import SCENES as SCENES_WITH_TRUTH
from ffpdata.sample.scenes import render

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.media.geometry import Geometry

    Image = NDArray[np.uint8]
    Frames = NDArray[np.uint8]

SCENES = ("astronaut", "chelsea", "coffee", "coins", "gravel", "motorcycle", "retina", "rocket")
"""Photographs without writing but for the patches of the astronaut's suit and the name of the motorcycle."""
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
    image = _covering(name, size)
    left = round(shift * (image.shape[1] - width))
    top = (image.shape[0] - height) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])


@lru_cache(maxsize=16)
def _covering(name: str, size: tuple[int, int]) -> Image:
    """Return a photograph a quarter larger than a frame."""
    image = photo(name)
    scale = max(1.25 * size[0] / image.shape[1], 1.25 * size[1] / image.shape[0])
    return enlarge(image, round(image.shape[1] * scale))


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
    names = [name for name in SCENES if name != "astronaut"]
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
        return np.stack([frame.to_ndarray(format="rgb24") for frame in islice(container.decode(video=0), frames)])


def faces(size: tuple[int, int]) -> Iterator[tuple[Image, bool]]:
    """Yield pictures with a face that can be recognised, True, and others: animals, coins, things, drawings."""
    astronaut, driver = photo("astronaut"), carphone(41)
    for scale in (0.25, 0.5, 1.0, 1.6):
        for flip in (False, True):
            yield _in_frame(astronaut[:, ::-1] if flip else astronaut, size, scale), True
    for picture in (driver[0], driver[20], driver[40]):
        yield _in_frame(picture, size, 1.0), True
        yield _in_frame((picture * 0.45).astype(np.uint8), size, 0.6), True
    for name in SCENES:
        if name != "astronaut":
            for shift in (0.0, 1.0):
                yield framed(name, size, shift), False
    for index in (0, 60, 120):
        yield _in_frame(clip_frame("bigbuckbunny", index), size, 1.0), False


def _in_frame(picture: Image, size: tuple[int, int], scale: float) -> Image:
    """Put a picture on grey, as high as the frame times `scale`; what is larger is cut at the bottom and the sides."""
    width, height = size
    tall = round(height * scale)
    image = enlarge(np.ascontiguousarray(picture), max(2, round(picture.shape[1] * tall / picture.shape[0])))
    image = image[:height]
    cut = max(0, image.shape[1] - width) // 2
    image = image[:, cut : cut + width]
    frame = np.full((height, width, 3), 118, np.uint8)
    left = (width - image.shape[1]) // 2
    frame[: image.shape[0], left : left + image.shape[1]] = image
    return frame


CHANGES: dict[str, Callable[[Image], Image]] = {
    "as it is": lambda p: p,
    "mirrored": lambda p: p[:, ::-1],
    "cropped to 80 %": lambda p: p[p.shape[0] // 10 : -p.shape[0] // 10, p.shape[1] // 10 : -p.shape[1] // 10],
    "cropped to 60 %": lambda p: p[p.shape[0] // 5 : -p.shape[0] // 5, p.shape[1] // 5 : -p.shape[1] // 5],
    "JPEG of quality 15": lambda p: _jpeg(p, 15),
    "half as bright": lambda p: (p * 0.5).astype(np.uint8),
    "half the size": lambda p: cv2.resize(p, (p.shape[1] // 2, p.shape[0] // 2), interpolation=cv2.INTER_AREA),
    "grey": lambda p: np.repeat(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    "a title over it": lambda p: write_on(p[None], "BREAKING NEWS", "middle", font=FONTS[1], opacity=1, height=0.12)[0],
}
"""What happens to pictures on their way through the web."""


def _jpeg(picture: Image, quality: int) -> Image:
    coded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1])


def different_pictures(size: tuple[int, int]) -> list[Image]:
    """Return pictures of which no two show the same."""
    frames = [clip_frame("bigbuckbunny", 0), clip_frame("bikes", 0), carphone(1)[0]]
    covered = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
    return [*(framed(name, size, 0.5) for name in SCENES), *covered]


@dataclass(frozen=True)
class Edited:
    """A pair whose fault is known.

    Attributes:
        what: was done.
        task: `removal` or `modification`.
        bad: whether the edit failed.
        source, target: uint8 (T, H, W, 3).
        masks: bool (T, H, W), the object.
    """

    what: str
    task: str
    bad: bool
    source: Frames
    target: Frames
    masks: NDArray[np.bool_]


def edited_clips(geometry: Geometry, worlds: int = 4) -> Iterator[Edited]:
    """Yield removals and modifications of a walking person in several places, good ones and failed ones."""
    astronaut = next(scene for scene in SCENES_WITH_TRUTH if scene.name.startswith("astronaut"))
    for other in [scene for scene in SCENES_WITH_TRUTH if scene.name != "motorcycle_pan"][:worlds]:
        rendered = list(render(replace(astronaut, world=other.world), geometry))
        source, background, masks = (np.stack(part) for part in zip(*rendered, strict=True))
        inside = masks[..., None]
        half = masks & (np.arange(masks.shape[1]) > masks.shape[1] * 0.7)[:, None]
        hsv = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2HSV) for frame in source])
        hsv[..., 0] = (hsv[..., 0].astype(int) + 70) % 180
        hue = np.stack([cv2.cvtColor(frame, cv2.COLOR_HSV2RGB) for frame in hsv])
        late = np.arange(len(source))[:, None, None, None] >= len(source) // 3
        blocks = np.stack([_blocks(frame, frame.shape[0] // 9) for frame in source])
        gravel = np.broadcast_to(framed("gravel", (geometry.width, geometry.height)), source.shape)
        for what, task, bad, target in (
            ("gone", "removal", False, background),
            ("gone, shadow of it left", "removal", False, np.where(inside, background, source)),
            ("nothing done", "removal", True, source),
            ("a ghost of half its opacity", "removal", True, (source // 2 + background // 2)),
            ("lower part left", "removal", True, np.where(half[..., None], source, background)),
            ("other hue", "modification", False, np.where(inside, hue, source)),
            ("darker", "modification", False, np.where(inside, source // 2, source)),
            ("lighter", "modification", False, np.where(inside, 255 - (255 - source) // 2, source)),
            ("gone after a third", "modification", True, np.where(late, background, source)),
            ("blocks of colour", "modification", True, np.where(inside, blocks, source)),
            ("gravel of its shape", "modification", True, np.where(inside, gravel, source)),
        ):
            yield Edited(what, task, bad, source, np.ascontiguousarray(target), masks)


def _blocks(frame: Image, side: int) -> Image:
    small = cv2.resize(frame, (frame.shape[1] // side, frame.shape[0] // side), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, frame.shape[1::-1], interpolation=cv2.INTER_NEAREST)
