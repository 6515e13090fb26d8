"""What a served model is shown: which frames of a clip, at what size, as parts of a chat message.

Servers sample and resize in ways of their own; here it is done once, the same for all of them, and recorded.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ffpdata.core.errors import FatalError
from ffpdata.models.vlm.settings import VisionSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.core.prompt import Prompt

    Pixels = NDArray[np.uint8]

ORDINALS = ("First", "Second", "Third", "Fourth")


@dataclass
class ShownMedia:
    """What one question shows.

    Attributes:
        parts: content parts of a chat message, in the prompt's order.
        frames: medium to the numbers of its frames that are shown, counted from 0.
        sizes: medium to (width, height) as shown.
    """

    parts: list[dict[str, Any]] = field(default_factory=list)
    frames: dict[str, list[int]] = field(default_factory=dict)
    sizes: dict[str, list[int]] = field(default_factory=dict)


def show(prompt: Prompt, media: Mapping[str, Any], settings: VisionSettings) -> ShownMedia:
    """Sample, scale and encode the media that a prompt shows.

    Args:
        prompt: `prompt.media` says what is shown, in order, and how.
        media: clips uint8 (T, H, W, 3) and images uint8 (H, W, 3), RGB, by name.
        settings: which frames and what size.

    Raises:
        FatalError: a medium that the prompt shows is not there, or is no clip or image.
    """
    view, shown, clips = settings.view(prompt.name), ShownMedia(), 0
    for name, kind in prompt.media.items():
        pixels = _get(media, name, prompt)
        if pixels.ndim == 4 and kind == "clip":
            numbers = frame_numbers(len(pixels), view.frames)
            size = shown_size(pixels.shape[2], pixels.shape[1], view.clip_pixels, settings.multiple)
            jpegs = [_jpeg(pixels[i], size, settings.jpeg_quality) for i in numbers]
            shown.parts += _clip_parts(jpegs, settings.clips_as, clips)
            clips += 1
        else:
            image = pixels[0] if pixels.ndim == 4 else pixels
            numbers = [0]
            size = shown_size(image.shape[1], image.shape[0], view.image_pixels, settings.multiple)
            shown.parts.append(_image_part(_jpeg(image, size, settings.jpeg_quality)))
        shown.frames[name], shown.sizes[name] = numbers, list(size)
    return shown


def frame_numbers(length: int, count: int) -> list[int]:
    """Return `count` frame numbers spread evenly over 0..length-1, both ends included; all of a shorter clip."""
    if count >= length:
        return list(range(length))
    if count == 1:
        return [0]
    return [round(i * (length - 1) / (count - 1)) for i in range(count)]


def shown_size(width: int, height: int, pixels: int, multiple: int) -> tuple[int, int]:
    """Return the width and height shown: the same shape, at most `pixels` in area, both multiples of `multiple`.

    Nothing is enlarged beyond the next multiple; a side is at least one multiple long.
    """
    scale = min(1.0, math.sqrt(pixels / (width * height))) / multiple
    wide, high = (({max(1, math.floor(side * scale)), max(1, math.ceil(side * scale))}) for side in (width, height))
    least = (max(1, math.floor(width * scale)), max(1, math.floor(height * scale)))
    fitting = [(w, h) for w in wide for h in high if w * h * multiple**2 <= pixels] or [least]
    # The least change of shape, then the larger picture.
    w, h = min(fitting, key=lambda sides: (abs(math.log(sides[0] * height / (sides[1] * width))), -sides[0] * sides[1]))
    return w * multiple, h * multiple


def _get(media: Mapping[str, Any], name: str, prompt: Prompt) -> Pixels:
    pixels = media.get(name)
    if pixels is None:
        raise FatalError(f"the prompt {prompt.name!r} shows {name!r}, and it was given {sorted(media)} only")
    array: Pixels = np.asarray(pixels)
    if array.dtype != np.uint8 or array.ndim not in (3, 4) or array.shape[-1] != 3 or 0 in array.shape:
        raise FatalError(
            f"the prompt {prompt.name!r}: {name!r} must be a clip (T, H, W, 3) or an image (H, W, 3), uint8 RGB, "
            f"not {array.dtype} {array.shape}"
        )
    return array


def _jpeg(image: Pixels, size: tuple[int, int], quality: int) -> str:
    """Scale an image to (width, height) and return it as base64 of a JPEG."""
    if (image.shape[1], image.shape[0]) != size:
        smaller = size[0] * size[1] < image.shape[0] * image.shape[1]
        how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
        image = cv2.resize(image, size, interpolation=how).astype(np.uint8, copy=False)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"an image of {size[0]}x{size[1]} could not be written as JPEG")
    return base64.b64encode(data.tobytes()).decode("ascii")


def _image_part(jpeg: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{jpeg}"}}


def _clip_parts(jpegs: list[str], clips_as: str, before: int) -> list[dict[str, Any]]:
    """One part per clip, or a heading and its frames; `before` clips stand before it."""
    if clips_as == "video":
        return [{"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{','.join(jpegs)}"}}]
    ordinal = ORDINALS[before] if before < len(ORDINALS) else f"{before + 1}th"
    heading = f"{ordinal} video, {len(jpegs)} frames in order of time:"
    return [{"type": "text", "text": heading}, *(_image_part(jpeg) for jpeg in jpegs)]
