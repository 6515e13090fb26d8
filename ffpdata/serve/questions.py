"""The largest question that a model is asked: its tokens, its media and their pixels, from prompts and settings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ffpdata.models.vlm.answers import MAX_QUOTED

if TYPE_CHECKING:
    from ffpdata.core.prompt import Prompt
    from ffpdata.models.vlm.settings import VisionSettings
    from ffpdata.serve.model_shape import ModelShape

BYTES_PER_TOKEN = 2
"""Bytes of text in a token at the least. English has four to five, Chinese about three."""
TEMPLATE_TOKENS = 64
"""Tokens of the chat template, its system message included."""
MEDIUM_TOKENS, HEADING_TOKENS = 2, 24
"""Tokens around each medium, and of the heading of a clip whose frames are sent as images."""
REPAIR_BYTES = 800
"""Bytes of the request for a better answer, the faults of the last one included."""
FIELD_BYTES = 256
"""Bytes of a field at the least: a table of the user's own may fill it, whatever an answer is limited to."""
ROUND = 256
"""Lengths are rounded up to it."""


@dataclass(frozen=True)
class Demand:
    """What a server must take.

    Attributes:
        length: tokens of the longest question with its answer and its repair, rounded up.
        longest: name of that question.
        videos: most videos in a question.
        images: most images in a question.
        clip_pixels: most pixels of a video's frame.
        clip_edge: the bound that the model's video processor is told of them: of a frame, or of a whole video.
        image_pixels: most pixels of an image.
        medium: tokens of the largest medium.
    """

    length: int
    longest: str
    videos: int
    images: int
    clip_pixels: int
    clip_edge: int
    image_pixels: int
    medium: int


def demand(prompts: Iterable[Prompt], settings: VisionSettings, shape: ModelShape) -> Demand:
    """Return what the prompts of a profile ask of its server; upper bounds throughout.

    Args:
        prompts: all questions that may be asked; at least one.
        settings: the model's, with its views.
        shape: the model's rule for tokens of pixels.
    """
    asked = {prompt.name: prompt for prompt in prompts}
    fields = _field_bytes(asked.values())
    lengths: dict[str, int] = {}
    clip_pixels = clip_edge = image_pixels = medium = 0
    for name, prompt in asked.items():
        view, tokens = settings.view(name), TEMPLATE_TOKENS
        clips = sum(kind == "clip" for kind in prompt.media.values())
        stills = len(prompt.media) - clips
        if settings.clips_as == "images":
            each = shape.image_tokens(view.clip_pixels)
            tokens += clips * (view.frames * (each + MEDIUM_TOKENS) + HEADING_TOKENS)
            image_pixels = max(image_pixels, view.clip_pixels if clips else 0)
        else:
            each = shape.clip_tokens(view.frames, view.clip_pixels)
            tokens += clips * (each + MEDIUM_TOKENS)
            clip_pixels = max(clip_pixels, view.clip_pixels if clips else 0)
            clip_edge = max(clip_edge, shape.clip_edge(view.frames, view.clip_pixels) if clips else 0)
        still = shape.image_tokens(view.image_pixels)
        tokens += stills * (still + MEDIUM_TOKENS)
        near = view.closeup
        if near and near.of in prompt.media:
            crop = shape.image_tokens(near.pixels)
            tokens += near.images * (crop + MEDIUM_TOKENS) + near.runs * HEADING_TOKENS
            image_pixels, medium = max(image_pixels, near.pixels), max(medium, crop)
        image_pixels = max(image_pixels, view.image_pixels if stills else 0)
        medium = max(medium, each if clips else 0, still if stills else 0)
        text = len(prompt.text.encode()) + sum(max(fields.get(one, 0), FIELD_BYTES) for one in prompt.inputs)
        if settings.schema_mode != "json_schema":  # the question holds the schema
            text += len(json.dumps(prompt.schema)) + REPAIR_BYTES
        tokens += math.ceil(text / BYTES_PER_TOKEN) + settings.max_tokens
        if settings.repairs:  # the wrong answer and its faults are shown, and answered again
            tokens += min(settings.max_tokens, MAX_QUOTED) + math.ceil(REPAIR_BYTES / BYTES_PER_TOKEN)
        lengths[name] = tokens
    longest = max(lengths, key=lambda name: lengths[name])
    videos, images = count_media(asked.values(), settings)
    return Demand(rounded(lengths[longest]), longest, videos, images, clip_pixels, clip_edge, image_pixels, medium)


def count_media(prompts: Iterable[Prompt], settings: VisionSettings) -> tuple[int, int]:
    """Return the most videos and the most images in one question; frames that are sent as images are images."""
    videos = images = 0
    for prompt in prompts:
        view = settings.view(prompt.name)
        clips = sum(kind == "clip" for kind in prompt.media.values())
        shown = len(prompt.media) - clips
        if view.closeup and view.closeup.of in prompt.media:
            shown += view.closeup.images
        if settings.clips_as == "images":
            shown += clips * view.frames
        else:
            videos = max(videos, clips)
        images = max(images, shown)
    return videos, images


def rounded(tokens: int) -> int:
    """Return the next multiple of `ROUND`."""
    return math.ceil(tokens / ROUND) * ROUND


def _field_bytes(prompts: Iterable[Prompt]) -> dict[str, int]:
    """Return the longest text that an answer gives to a field of its name, bytes of English."""
    found: dict[str, int] = {}
    for prompt in prompts:
        for name, schema in prompt.schema["properties"].items():
            found[name] = max(found.get(name, 0), _longest(schema))
    return {name: size for name, size in found.items() if size}


def _longest(schema: Mapping[str, Any]) -> int:
    return int(schema.get("maxLength") or 0)
