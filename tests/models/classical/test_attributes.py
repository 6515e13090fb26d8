"""What is measured of scenes and things."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.models.classical.attributes import (
    ObjectDescription,
    describe_object,
    describe_scene,
    object_colour,
    palette,
    sample_frames,
    scene_white,
)
from tests.models.classical.toys import Clip, scene, texture

RED, BLUE, NAVY, WHITE = (200, 20, 20), (20, 60, 220), (20, 25, 110), (250, 250, 250)


def field(*bands: tuple[int, int, int]) -> Clip:
    image = np.zeros((30 * len(bands), 100, 3), np.uint8)
    for i, colour in enumerate(bands):
        image[30 * i : 30 * (i + 1)] = colour
    return image


def moving(path: list[tuple[int, int, int]]) -> tuple[Clip, np.ndarray]:
    """A blue square of half side r at (x, y, r) in each frame, on white."""
    frames = np.full((len(path), 100, 160, 3), 250, np.uint8)
    masks = np.zeros(frames.shape[:3], bool)
    for t, (x, y, r) in enumerate(path):
        masks[t, max(0, y - r) : y + r, max(0, x - r) : x + r] = True
    frames[masks] = BLUE
    return frames, masks


def test_bands_light_colour_and_tone() -> None:
    found = describe_scene(field(WHITE, RED, NAVY))
    assert found.bands == ("white", "red", "dark blue")
    assert found.lighter == "upper"
    assert found.contrast == "strong"
    assert describe_scene(field((5, 5, 5))).light == "dark"
    assert describe_scene(field(WHITE)).light == "bright"
    assert describe_scene(field((128, 128, 128))).colour == "muted"
    assert describe_scene(field(RED)).colour == "vivid"
    assert (describe_scene(field((220, 180, 120))).tone, describe_scene(field(BLUE)).tone) == ("warm", "cool")


def test_detail_is_told_from_smoothness() -> None:
    assert describe_scene(field((128, 128, 128))).detail == "smooth"
    noise = np.random.default_rng(0).integers(0, 255, (192, 256, 3)).astype(np.uint8)
    assert describe_scene(noise).detail == "finely detailed"
    assert describe_scene(texture(192, 320, 0)).detail == "lightly textured"


def test_what_the_mask_covers_is_left_out_of_the_scene() -> None:
    frames = np.full((3, 90, 160, 3), 250, np.uint8)
    masks = np.zeros(frames.shape[:3], bool)
    masks[:, 30:60, 10:150] = True
    frames[masks] = RED
    assert describe_scene(frames).bands[1] == "red"
    assert describe_scene(frames, masks).bands[1] == "white"
    assert describe_scene(frames, ~np.zeros_like(masks)).bands[1] == "red"  # everything masked: better than nothing


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ([(20 + 15 * t, 50, 8) for t in range(9)], "moving from left to right"),
        ([(140 - 15 * t, 50, 8) for t in range(9)], "moving from right to left"),
        ([(80, 10 + 10 * t, 8) for t in range(9)], "moving downwards"),
        ([(80, 90 - 10 * t, 8) for t in range(9)], "moving upwards"),
        ([(80, 50, 5 + 3 * t) for t in range(9)], "coming closer"),
        ([(80, 50, 30 - 3 * t) for t in range(9)], "moving away"),
        ([(80 + 25 * (-1) ** t, 50, 8) for t in range(9)], "moving back and forth"),
        ([(80, 50, 8)] * 9, ""),
        ([(80, 50, 8), (30, 50, 8)], ""),
    ],
)
def test_motion(path: list[tuple[int, int, int]], words: str) -> None:
    assert describe_object(*moving(path)).motion == words


@pytest.mark.parametrize(
    ("at", "place"),
    [
        ((80, 50), "in the middle"),
        ((20, 50), "on the left"),
        ((140, 50), "on the right"),
        ((80, 15), "at the top"),
        ((20, 88), "at the bottom left"),
        ((140, 15), "at the top right"),
    ],
)
def test_place_colour_and_size(at: tuple[int, int], place: str) -> None:
    found = describe_object(*moving([(*at, 6)] * 3))
    assert found == ObjectDescription(colour="blue", place=place, motion="", size="small")


def test_a_thing_that_is_seen_in_some_frames_only() -> None:
    frames, masks = moving([(20 + 15 * t, 50, 8) for t in range(9)])
    masks[::2] = False
    assert describe_object(frames, masks).motion == "moving from left to right"
    assert describe_object(frames, np.zeros_like(masks)) == ObjectDescription()
    assert describe_object(frames, masks[:, ::2]) == ObjectDescription()


def test_one_two_or_too_many_colours() -> None:
    assert object_colour(field(BLUE)) == "blue"
    assert object_colour(field(BLUE, RED)) == "red and blue"
    assert object_colour(field(BLUE, RED, WHITE, (20, 20, 20), (240, 220, 30))) == ""


def test_palette_is_ordered_and_shaded() -> None:
    pixels = field(NAVY, NAVY, NAVY, WHITE, WHITE, RED)
    assert palette(pixels) == ["blue", "white", "red"]
    assert palette(pixels, shades=True) == ["dark blue", "white", "red"]
    assert palette(pixels, most=1) == ["blue"]
    assert palette(pixels, least=0.3) == ["blue", "white"]


def test_look_takes_images_clips_and_masks() -> None:
    clip = scene(frames=7)
    assert sample_frames(clip.source, side=80, count=3).shape == (3, 48, 80, 3)
    assert sample_frames(clip.source[0], side=80).shape == (1, 48, 80, 3)
    assert sample_frames(clip.masks, side=80, count=3).dtype == bool
    assert sample_frames(clip.source[:2], count=5).shape[0] == 2


SHADE = np.linspace(0.55, 1.0, 60)[:, None, None]
"""A surface that turns away from the light."""


@pytest.mark.parametrize(
    ("name", "paint", "light"),
    [
        ("white", (242, 242, 240), 1.0),
        ("white", (232, 238, 248), 0.85),  # in the blue light of a shade
        ("grey", (128, 128, 128), 1.0),
        ("black", (34, 34, 36), 1.0),
        ("red", (200, 30, 30), 0.8),
        ("blue", (40, 90, 200), 0.8),
        ("yellow", (235, 210, 40), 1.0),
        ("green", (40, 140, 60), 0.9),
    ],
)
def test_a_shaded_car_with_windows_has_the_colour_of_its_paint(name: str, paint: tuple[int, ...], light: float) -> None:
    body = np.clip(np.array(paint) * SHADE * light * np.ones((1, 100, 1)), 0, 255).astype(np.uint8)
    body[10:28, 20:80] = (18, 20, 24)  # windows
    white = 95 * light
    assert object_colour(body, white) == name


def test_two_colours_of_a_spotted_dog() -> None:
    fur = np.concatenate([np.full((50, 40, 3), (150, 100, 60)), np.full((50, 35, 3), (240, 238, 232))], axis=1)
    assert object_colour(fur.astype(np.uint8), 95.0) == "brown and white"
    assert object_colour((fur * 0.9).astype(np.uint8), 86.0) == "brown and white"


def test_nothing_is_white_at_night() -> None:
    assert scene_white(np.full((4, 4, 3), 20, np.uint8)) == 75
    assert scene_white(np.full((4, 4, 3), 255, np.uint8)) == 100
