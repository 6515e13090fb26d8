"""What a served model is shown: frame numbers, sizes, order, and pixels that survive the way."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
import pytest

from ffpdata.core.errors import FatalError
from ffpdata.core.prompt import Prompt
from ffpdata.models.vlm.frame_sampling import encode_media, frame_numbers, scaled_size
from ffpdata.models.vlm.settings import VisionSettings


def prompt(**media: str) -> Prompt:
    return Prompt(name="ask", text="?", schema={"type": "object"}, media=media)


def pixels(part: dict[str, Any]) -> list[np.ndarray]:
    url = part[part["type"]]["url"]
    head, _, data = url.partition(",")
    assert head in ("data:image/jpeg;base64", "data:video/jpeg;base64")
    jpegs = [np.frombuffer(base64.b64decode(entry), np.uint8) for entry in data.split(",")]
    return [cv2.cvtColor(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB) for jpeg in jpegs]


def clip(frames: int = 81, height: int = 72, width: int = 128) -> np.ndarray:
    """Frame i is a plain picture of brightness i * 3, redder than blue."""
    made = np.zeros((frames, height, width, 3), np.uint8)
    made[:] = np.arange(frames).reshape(-1, 1, 1, 1).astype(np.uint8) * 3
    made[..., 2] //= 2
    return made


@pytest.mark.parametrize(
    ("length", "count", "numbers"),
    [
        (81, 8, [0, 11, 23, 34, 46, 57, 69, 80]),
        (81, 2, [0, 80]),
        (81, 1, [0]),
        (5, 8, [0, 1, 2, 3, 4]),
        (1, 8, [0]),
        (8, 8, list(range(8))),
    ],
)
def test_frame_numbers_hold_both_ends_and_never_repeat(length: int, count: int, numbers: list[int]) -> None:
    assert frame_numbers(length, count) == numbers


@pytest.mark.parametrize(
    ("size", "area", "expected"),
    [
        ((1280, 720), 644 * 364, (644, 364)),
        ((720, 1280), 644 * 364, (364, 644)),
        ((1280, 720), 640 * 360, (616, 336)),
        ((1280, 720), 1288 * 728, (1288, 728)),
        ((320, 192), 644 * 364, (336, 196)),
        ((280, 280), 280 * 280, (280, 280)),
        ((10, 10), 644 * 364, (28, 28)),
        ((4000, 30), 644 * 364, (3976, 28)),
    ],
)
def test_a_size_is_a_multiple_within_the_area(size: tuple[int, int], area: int, expected: tuple[int, int]) -> None:
    assert scaled_size(*size, area, 28) == expected


def test_two_clips_and_an_image_come_in_the_prompts_order() -> None:
    image = np.full((100, 200, 3), (200, 60, 10), np.uint8)
    source, target = clip(), 255 - clip()
    asked = prompt(source="clip", reference="image", target="clip")
    shown = encode_media(asked, {"target": target, "reference": image, "source": source}, VisionSettings())
    assert [part["type"] for part in shown.parts] == ["video_url", "image_url", "video_url"]
    first, picture, second = map(pixels, shown.parts)
    assert shown.frames == {"source": frame_numbers(81, 8), "reference": [0], "target": frame_numbers(81, 8)}
    assert shown.sizes["source"] == [first[0].shape[1], first[0].shape[0]]
    for got, number in zip(first, shown.frames["source"], strict=True):
        assert abs(got.reshape(-1, 3).mean(axis=0) - source[number, 0, 0]).max() < 4
    for got, number in zip(second, shown.frames["target"], strict=True):
        assert abs(got.reshape(-1, 3).mean(axis=0) - target[number, 0, 0]).max() < 4
    assert abs(picture[0].reshape(-1, 3).mean(axis=0) - (200, 60, 10)).max() < 4


def test_a_first_frame_is_the_first_frame_also_of_a_clip() -> None:
    asked = prompt(source="first_frame")
    for given in (clip()[40:], clip()[40]):
        shown = encode_media(asked, {"source": given}, VisionSettings())
        assert [part["type"] for part in shown.parts] == ["image_url"]
        assert abs(float(pixels(shown.parts[0])[0][..., 0].mean()) - 120) < 3


def test_clips_as_images_are_told_apart_by_headings() -> None:
    asked = prompt(source="clip", target="clip")
    shown = encode_media(asked, {"source": clip(), "target": clip()}, VisionSettings(clips_as="images", frames=3))
    kinds = [part["type"] for part in shown.parts]
    assert kinds == ["text", *["image_url"] * 3, "text", *["image_url"] * 3]
    assert shown.parts[0]["text"].startswith("First video, 3 frames")
    assert shown.parts[4]["text"].startswith("Second video, 3 frames")


def test_a_question_of_its_own_view() -> None:
    settings = VisionSettings.model_validate({"frames": 4, "questions": {"ask": {"frames": 6, "clip_pixels": 56 * 56}}})
    shown = encode_media(prompt(source="clip"), {"source": clip()}, settings)
    assert len(shown.frames["source"]) == 6
    assert shown.sizes["source"][0] * shown.sizes["source"][1] <= 56 * 56


@pytest.mark.parametrize(
    "bad", [None, np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 4, 3), np.uint8)]
)
def test_a_missing_or_odd_medium_is_refused(bad: Any) -> None:
    with pytest.raises(FatalError, match="source"):
        encode_media(prompt(source="clip"), {} if bad is None else {"source": bad}, VisionSettings())
