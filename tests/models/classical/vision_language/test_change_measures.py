"""What an edit changed: colours, pattern, steadiness, and whether it stayed inside its mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from ffpdata.models.classical.vision_language.change_measures import (
    LocalChange,
    measure_global,
    measure_local,
    unsteadiness,
)
from tests.models.classical.toys import Clip, Scene, painting, scene, texture


@pytest.fixture(scope="module")
def shot() -> Scene:
    return scene(frames=9, pan=1.0)


def recoloured(shot: Scene) -> Clip:
    return np.where(shot.masks[..., None], shot.source[..., ::-1], shot.source)


def local(source: Clip, target: Clip, masks: np.ndarray) -> LocalChange:
    found = measure_local(source, target, masks)
    assert found is not None
    return found


def test_a_new_colour_on_the_same_pattern(shot: Scene) -> None:
    found = local(shot.source, recoloured(shot), shot.masks)
    assert found.before[0] == "red"
    assert found.after[0] == "blue"
    assert found.change > 30
    assert found.part > 0.9
    assert found.structure > 0.7
    assert found.outside == 0
    assert found.unsteady < 1


def test_another_object_in_the_place(shot: Scene) -> None:
    other = np.broadcast_to(texture(192, 320, 99), shot.source.shape)
    found = local(shot.source, np.where(shot.masks[..., None], other, shot.source), shot.masks)
    assert found.structure < 0.3


def test_nothing_changed(shot: Scene) -> None:
    found = local(shot.source, shot.source, shot.masks)
    assert (found.change, found.part, found.outside, found.unsteady) == (0, 0, 0, 0)
    assert found.structure > 0.99


def test_darker_and_paler(shot: Scene) -> None:
    darker = np.where(shot.masks[..., None], shot.source // 2, shot.source)
    assert local(shot.source, darker, shot.masks).light < -5
    grey = np.repeat(shot.source.mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.uint8)
    assert local(shot.source, np.where(shot.masks[..., None], grey, shot.source), shot.masks).chroma < -10


def test_plain_things_keep_their_pattern() -> None:
    plain = np.full((3, 60, 80, 3), 200, np.uint8)
    masks = np.zeros(plain.shape[:3], bool)
    masks[:, 20:40, 20:40] = True
    assert local(plain, plain // 2, masks).structure == 1


def test_a_spill_outside_the_mask(shot: Scene) -> None:
    assert local(shot.source, np.ascontiguousarray(shot.source[..., ::-1]), shot.masks).outside > 5


def test_flicker_is_measured_against_the_source(shot: Scene) -> None:
    levels = np.random.default_rng(0).integers(-20, 21, (len(shot.source), 1, 1, 1))
    restless = np.clip(shot.source + levels, 0, 255).astype(np.uint8)
    assert unsteadiness(shot.source, restless) > 4
    assert unsteadiness(shot.source, shot.source) == 0
    assert unsteadiness(restless, shot.source) == 0
    assert unsteadiness(shot.source[:1], restless[:1]) == 0


def test_a_restyled_clip(shot: Scene) -> None:
    reference = painting()
    tinted = np.stack([cv2.addWeighted(f, 0.3, np.full_like(f, (30, 60, 150)), 0.7, 0) for f in shot.source])
    found = measure_global(shot.source, tinted, reference)
    assert found is not None
    assert found.change > 15
    assert found.structure > 0.8
    assert found.approach > 0.1
    same = measure_global(shot.source, shot.source, reference)
    assert same is not None
    assert (same.change, same.approach) == (0, 0)
    turned = measure_global(shot.source, np.ascontiguousarray(shot.source[:, ::-1]), None)
    assert turned is not None
    assert turned.structure < 0.3


def test_clips_that_do_not_fit(shot: Scene) -> None:
    assert measure_local(shot.source, shot.source[:2], shot.masks) is None
    assert measure_local(shot.source, shot.source, np.zeros_like(shot.masks)) is None
    assert measure_global(shot.source, shot.source[:2]) is None
