"""Sample, scale and encode media as parts of a chat message.

Servers differ in how they sample and resize; here it is done once, the same for all servers, and recorded.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ffpdata.core.errors import FatalError
from ffpdata.models.vlm.closeup import Run, find_runs
from ffpdata.models.vlm.frame_choice import frame_numbers, scaled_size, shown_rate
from ffpdata.models.vlm.settings import Closeup, VisionSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ffpdata.core.prompt import Prompt

    Pixels = NDArray[np.uint8]

ORDINALS = ("First", "Second", "Third", "Fourth")


CLOSEUP = "closeup"
"""Name of the close-up beside the names of media."""


@dataclass
class EncodedMedia:
    """The media of one question.

    Attributes:
        parts: content parts of a chat message, in the prompt's order; a close-up comes last.
        frames: medium to the numbers of its sampled frames, from 0; `closeup`, too.
        sizes: medium to [width, height] of its frames, pixels.
        rates: clip to the rate of its sampled frames, frames per second; empty where that of the clips is not known.
        boxes: x0, y0, x1, y1 of the close-up's runs, in pixels of the clip.
    """

    parts: list[dict[str, Any]] = field(default_factory=list)
    frames: dict[str, list[int]] = field(default_factory=dict)
    sizes: dict[str, list[int]] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    boxes: list[list[int]] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Return what was sent, for the manifest: `frames`, `sizes`, and, where they are known, `fps` and `boxes`."""
        rates = {name: round(rate, 4) for name, rate in self.rates.items()}
        more = {"fps": rates, "boxes": self.boxes}
        return {"frames": self.frames, "sizes": self.sizes, **{name: value for name, value in more.items() if value}}


def encode_media(
    prompt: Prompt, media: Mapping[str, Any], settings: VisionSettings, fps: float | None = None
) -> EncodedMedia:
    """Sample, scale and encode the media of a prompt.

    Args:
        prompt: `prompt.media` lists the media in order, and their kind.
        media: clips uint8 (T, H, W, 3) and images uint8 (H, W, 3), RGB, by name; masks bool (T, H, W) for a close-up.
        settings: number of frames, and sizes.
        fps: rate of the clips, frames per second; None where it is not known: the model is then told no times.

    Raises:
        FatalError: a medium of the prompt is missing, or is neither clip nor image.
    """
    view, encoded = settings.view(prompt.name), EncodedMedia()
    clips: dict[str, Pixels] = {}
    for name, kind in prompt.media.items():
        pixels = _get_pixels(media, name, prompt)
        if pixels.ndim == 4 and kind == "clip":
            numbers = frame_numbers(len(pixels), view.frames)
            size = scaled_size(pixels.shape[2], pixels.shape[1], view.clip_pixels, settings.multiple)
            jpegs = [_jpeg(pixels[i], size, settings.jpeg_quality) for i in numbers]
            if fps:
                encoded.rates[name] = shown_rate(numbers, fps)
            if settings.clips_as == "video":
                encoded.parts.append(_video_part(jpegs))
            else:
                heading = f"{_ordinal(len(clips))} video, {len(jpegs)} frames {_times(numbers, fps)}:"
                encoded.parts += [_text_part(heading), *map(_image_part, jpegs)]
            clips[name] = pixels
        else:
            image = pixels[0] if pixels.ndim == 4 else pixels
            numbers = [0]
            size = scaled_size(image.shape[1], image.shape[0], view.image_pixels, settings.multiple)
            encoded.parts.append(_image_part(_jpeg(image, size, settings.jpeg_quality)))
        encoded.frames[name], encoded.sizes[name] = numbers, list(size)
    if view.closeup and view.closeup.of in clips and view.closeup.around in media:
        runs = find_runs(np.asarray(media[view.closeup.around]), view.closeup, settings.multiple)
        which = _ordinal(list(clips).index(view.closeup.of)).lower()
        for run in runs:
            heading = f"Close-up of the {which} video, the place of the edit, {len(run.numbers)} neighbouring frames"
            encoded.parts.append(_text_part(f"{heading} {_times(run.numbers, fps)}:"))
            jpegs, size = _crops(clips[view.closeup.of], run, view.closeup, settings)
            # Each an image of its own: of a video, the model merges every two frames.
            encoded.parts += map(_image_part, jpegs)
            encoded.frames.setdefault(CLOSEUP, []).extend(run.numbers)
            encoded.sizes[CLOSEUP] = list(size)
            encoded.boxes.append(list(run.box))
    return encoded


def _crops(clip: Pixels, run: Run, closeup: Closeup, settings: VisionSettings) -> tuple[list[str], tuple[int, int]]:
    """Return a run's frames as JPEGs, and their (width, height)."""
    x0, y0, x1, y1 = run.box
    size = scaled_size(x1 - x0, y1 - y0, closeup.pixels, settings.multiple)
    crops = [np.ascontiguousarray(clip[number, y0:y1, x0:x1]) for number in run.numbers]
    return [_jpeg(crop, size, settings.jpeg_quality) for crop in crops], size


def _times(numbers: Sequence[int], fps: float | None) -> str:
    """Say when frames are shown: `at 0.00, 2.50 and 5.00 s`."""
    if not fps:
        return "in order of time"
    times = [f"{number / fps:.2f}" for number in numbers]
    return f"at {', '.join(times[:-1])}{' and ' if len(times) > 1 else ''}{times[-1]} s"


def _ordinal(place: int) -> str:
    return ORDINALS[place] if place < len(ORDINALS) else f"{place + 1}th"


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


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image_part(jpeg: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{jpeg}"}}


def _video_part(jpegs: list[str]) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{','.join(jpegs)}"}}
