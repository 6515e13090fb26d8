"""Sample, scale and encode media as parts of a chat message.

Servers differ in how they sample and resize; here it is done once, the same for all servers, and recorded.
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
class EncodedMedia:
    """The media of one question.

    Attributes:
        parts: content parts of a chat message, in the prompt's order.
        frames: medium to the numbers of its sampled frames, from 0.
        sizes: medium to [width, height] of its frames, pixels.
    """

    parts: list[dict[str, Any]] = field(default_factory=list)
    frames: dict[str, list[int]] = field(default_factory=dict)
    sizes: dict[str, list[int]] = field(default_factory=dict)


def encode_media(prompt: Prompt, media: Mapping[str, Any], settings: VisionSettings) -> EncodedMedia:
    """Sample, scale and encode the media of a prompt.

    Args:
        prompt: `prompt.media` lists the media in order, and their kind.
        media: clips uint8 (T, H, W, 3) and images uint8 (H, W, 3), RGB, by name.
        settings: number of frames, and sizes.

    Raises:
        FatalError: a medium of the prompt is missing, or is neither clip nor image.
    """
    view, encoded, clips = settings.view(prompt.name), EncodedMedia(), 0
    for name, kind in prompt.media.items():
        pixels = _get_pixels(media, name, prompt)
        if pixels.ndim == 4 and kind == "clip":
            numbers = frame_numbers(len(pixels), view.frames)
            size = scaled_size(pixels.shape[2], pixels.shape[1], view.clip_pixels, settings.multiple)
            jpegs = [_jpeg(pixels[i], size, settings.jpeg_quality) for i in numbers]
            encoded.parts += _clip_parts(jpegs, settings.clips_as, clips)
            clips += 1
        else:
            image = pixels[0] if pixels.ndim == 4 else pixels
            numbers = [0]
            size = scaled_size(image.shape[1], image.shape[0], view.image_pixels, settings.multiple)
            encoded.parts.append(_image_part(_jpeg(image, size, settings.jpeg_quality)))
        encoded.frames[name], encoded.sizes[name] = numbers, list(size)
    return encoded


def frame_numbers(length: int, count: int) -> list[int]:
    """Return `count` frame numbers spread evenly over 0..length-1, both ends included; all of a shorter clip."""
    if count >= length:
        return list(range(length))
    if count == 1:
        return [0]
    return [round(i * (length - 1) / (count - 1)) for i in range(count)]


def scaled_size(width: int, height: int, pixels: int, multiple: int) -> tuple[int, int]:
    """Return width and height of a scaled frame: similar shape, at most `pixels` in area, multiples of `multiple`.

    Frames are not enlarged beyond the next multiple; a side is at least one multiple long.
    """
    scale = min(1.0, math.sqrt(pixels / (width * height))) / multiple
    wide, high = (({max(1, math.floor(side * scale)), max(1, math.ceil(side * scale))}) for side in (width, height))
    least = (max(1, math.floor(width * scale)), max(1, math.floor(height * scale)))
    fitting = [(w, h) for w in wide for h in high if w * h * multiple**2 <= pixels] or [least]
    # The smallest change of shape, then the larger area.
    w, h = min(fitting, key=lambda sides: (abs(math.log(sides[0] * height / (sides[1] * width))), -sides[0] * sides[1]))
    return w * multiple, h * multiple


def _get_pixels(media: Mapping[str, Any], name: str, prompt: Prompt) -> Pixels:
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
    """Scale an image to (width, height) and return it as a JPEG in base64."""
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
    """Return one part for a clip, or a heading and its frames; `before` is the number of clips before it."""
    if clips_as == "video":
        return [{"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{','.join(jpegs)}"}}]
    ordinal = ORDINALS[before] if before < len(ORDINALS) else f"{before + 1}th"
    heading = f"{ordinal} video, {len(jpegs)} frames in order of time:"
    return [{"type": "text", "text": heading}, *(_image_part(jpeg) for jpeg in jpegs)]
