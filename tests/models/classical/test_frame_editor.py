"""The embedded image editor: another look of an object, a style of a picture, and nothing that it cannot draw."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ffpdata.core.errors import ConfigError, Reject
from ffpdata.core.stage import ModelSpec
from ffpdata.models.classical.frame_editor import FrameEditor

HEIGHT, WIDTH = 96, 160


@pytest.fixture(scope="module")
def editor() -> FrameEditor:
    return FrameEditor(ModelSpec.of(FrameEditor))


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray]:
    """A red disc with shading before a grey texture, and where it is."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(80, 170, (12, 20, 1), np.uint8), (WIDTH, HEIGHT))[..., None].repeat(3, 2)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    mask = np.hypot(y - 48, x - 80) < 30
    shade = np.clip(1.2 - np.hypot(y - 38, x - 70) / 60, 0.4, 1.2)[..., None]
    image = np.where(mask[..., None], np.clip(shade * (190, 30, 30), 0, 255), image).astype(np.uint8)
    return image, mask


def test_an_object_gets_another_look_and_the_rest_stays(
    editor: FrameEditor, scene: tuple[np.ndarray, np.ndarray]
) -> None:
    image, mask = scene
    made = editor.edit_image(image, task="modification", prompt="", mask=mask, seed=3)
    change = np.abs(made.image.astype(int) - image).max(axis=2)
    assert change[mask].mean() > 15
    assert change[~cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))).astype(bool)].max() == 0
    assert any(name.startswith("look_") for name in made.facts)
    assert "coloured_least" not in made.facts
    with pytest.raises(Reject, match="the mask holds 0 pixels"):
        editor.edit_image(image, task="modification", prompt="")


def test_a_picture_gets_a_style(editor: FrameEditor, samples: Path) -> None:
    from ffpdata.media.codec import read_first_frame, read_image

    image = read_first_frame(samples / "clips" / "ball_static.mp4")
    made = editor.edit_image(image, task="stylization", prompt="", reference=read_image(samples / "style" / "oil.png"))
    assert made.image.shape == image.shape
    assert np.abs(made.image.astype(int) - image).mean() > 10
    assert 0 < made.facts["style_share"] <= 1
    assert "style_flicker" not in made.facts
    with pytest.raises(Reject, match="there is none"):
        editor.edit_image(image, task="stylization", prompt="")


@pytest.mark.parametrize("task", ["swap", "addition"])
def test_new_things_need_a_trained_model(editor: FrameEditor, scene: tuple[np.ndarray, np.ndarray], task: str) -> None:
    with pytest.raises(Reject, match=f"makes modification and stylization, and not {task}"):
        editor.edit_image(scene[0], task=task, prompt="Add a hat.", mask=scene[1])


def test_settings_go_to_the_back_end_that_they_are_of(scene: tuple[np.ndarray, np.ndarray]) -> None:
    looks = {"modification": {"looks": ["stripes"]}}
    made = FrameEditor(ModelSpec.of(FrameEditor, settings=looks)).edit_image(
        scene[0], task="modification", prompt="", mask=scene[1]
    )
    assert made.facts["look_stripes"] == 1
    with pytest.raises(ConfigError, match="lookz"):
        FrameEditor(ModelSpec.of(FrameEditor, settings={"modification": {"lookz": []}}))
