"""The embedded swapper: what it paints sticks, keeps to the object, and is said in its facts."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from ffpdata.core.errors import Reject
from ffpdata.core.stage import ModelSpec
from ffpdata.models.classical.colour import to_lab
from ffpdata.models.classical.modification.colour_map import COLOURS, Paint, PaintedPart, find_paint, painted
from ffpdata.models.classical.modification.looks import LOOKS, suiting
from ffpdata.models.classical.modification.materials import MATERIALS
from ffpdata.models.classical.modification.surface import Surface
from ffpdata.models.classical.swapper import Recolour
from ffpdata.models.classical.vision_language.change_measures import measure_local
from ffpdata.models.protocols import Edit
from tests.models.classical.toys import Clip, Scene, scene, texture

BACKEND = "ffpdata.models.classical.swapper:Recolour"
SIZE = (108, 192)
BOX = np.s_[30:78, 20:92]
"""The body of the car in the first frame; its tyres hang below it, and its shadow lies there."""


def edit(frames: Clip, masks: Any, seed: int = 0, **settings: Any) -> Edit:
    return Recolour(ModelSpec(backend=BACKEND, settings=settings)).edit(frames, masks, seed=seed)


def car(paint: tuple[int, int, int], frames: int = 5, step: int = 6) -> tuple[Clip, Any, Any]:
    """A box with windows and tyres that drives over a road with its shadow: frames, masks with the shadow, shadows."""
    road = texture(*SIZE, 3, (0.95, 0.95, 0.95)) // 4 + 110
    clip, masks, shadows = [], [], []
    shade = np.linspace(0.75, 1.0, 48)[::-1, None, None]
    for t in range(frames):
        frame, mask, shadow = road.copy(), np.zeros(SIZE, bool), np.zeros(SIZE, bool)
        move = step * t
        shadow[78:90, 16 + move : 98 + move] = True
        frame[shadow] = (frame[shadow] * 0.55).astype(np.uint8)
        body = np.clip(np.array(paint) * shade + texture(48, 72, 4)[..., :1] / 16.0 - 8, 0, 255)
        frame[30:78, 20 + move : 92 + move] = body.astype(np.uint8)
        frame[36:50, 34 + move : 78 + move] = (20, 22, 26)  # a window
        for x in (32, 80):
            cv2.circle(frame, (x + move, 78), 7, (14, 14, 14), -1)
        mask[30:78, 20 + move : 92 + move] = True
        clip.append(cv2.GaussianBlur(frame, (0, 0), 0.7))
        masks.append(mask | shadow)
        shadows.append(shadow)
    return np.stack(clip), np.stack(masks), np.stack(shadows)


WHITE = car((240, 240, 242))


@pytest.mark.parametrize("paint", [(240, 240, 242), (200, 30, 30), (60, 110, 200)])
def test_paint_leaves_shadow_window_and_tyres(paint: tuple[int, int, int]) -> None:
    frames, masks, shadows = car(paint)
    done = edit(frames, masks, looks=["recolour"])
    before, after = to_lab(frames), to_lab(done.frames)
    moved = np.linalg.norm(after - before, axis=-1)
    inner = np.stack([cv2.erode(s.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0 for s in shadows])
    assert moved[inner].mean() < 2
    assert moved[0][40:46, 40:70].mean() < 8, "the window"
    assert moved[0][56:70, 24:88].mean() > 25, "the body"
    assert done.facts["look_recolour"] == 1


def test_no_material_where_much_of_the_outline_looks_like_shadow() -> None:
    frames, masks, shadows = WHITE
    with pytest.raises(Reject, match="none of the looks"):
        edit(frames, masks, looks=["gold"])
    assert edit(frames, masks & ~shadows, looks=["gold"]).facts["look_gold"] == 1


def test_a_shadow_is_told_from_a_body() -> None:
    frames, masks, shadows = WHITE
    assert edit(frames, masks).facts["shadow_part"] == pytest.approx(shadows.sum() / masks.sum(), abs=0.1)
    assert edit(frames, masks & ~shadows).facts["shadow_part"] < 0.1


def test_a_white_object_is_painted_with_its_shading() -> None:
    lab = np.array([[90, 0, 0], [60, 0, 0], [30, 0, 0]], np.float32)
    red = painted(lab, Paint("white", (90.0, 0.0, 0.0), 0.45), COLOURS["red"])
    assert red[0] == pytest.approx(np.array([48, 62 * 0.83, 42 * 0.83]), abs=3)
    assert red[0, 0] > red[1, 0] > red[2, 0] > 5
    assert np.hypot(*red[1, 1:]) < np.hypot(*red[0, 1:])


@pytest.mark.parametrize("look", ["stripes", "dots", "checks"])
def test_a_pattern_sticks_to_what_moves_and_turns(look: str) -> None:
    """Painted first and moved then, or moved first and painted then: the same picture."""
    plate = texture(160, 160, 5, (0.5, 0.75, 1.2))
    steps = [cv2.getRotationMatrix2D((80, 80), 4 * t, 1.0) for t in range(6)]
    for t, matrix in enumerate(steps):
        matrix[0, 2] += 3 * t
    size = (260, 160)
    inside = np.zeros((160, 160), np.uint8)
    cv2.circle(inside, (80, 80), 50, 1, -1)
    frames = np.stack([cv2.warpAffine(plate, m, size, borderMode=cv2.BORDER_REFLECT) for m in steps])
    masks = np.stack([cv2.warpAffine(inside, m, size) > 0 for m in steps])
    done = edit(frames, masks, looks=[look])
    assert done.facts[f"look_{look}"] == 1
    back = np.stack(
        [cv2.warpAffine(f, m, (160, 160), flags=cv2.WARP_INVERSE_MAP) for f, m in zip(done.frames, steps, strict=True)]
    )
    core = cv2.erode(inside, np.ones((9, 9), np.uint8)) > 0
    drift = np.abs(back[-1].astype(int) - back[0])[core].mean()
    painted_on = np.abs(back[0].astype(int) - plate)[core].mean()
    assert drift < 0.4 * painted_on, (drift, painted_on)


def test_the_surface_keeps_its_coordinates_where_an_object_moves() -> None:
    shot = scene(frames=7)
    surface = Surface(shot.source, shot.masks)
    areas = [np.argwhere(m) for m in shot.masks]
    for t, points in enumerate(areas):
        y, x = points.mean(axis=0).round().astype(int)
        assert np.abs(surface.at(t, (slice(y, y + 1), slice(x, x + 1)))).max() < 0.12, t


@pytest.mark.parametrize("look", [look for look in LOOKS if look not in ("lighter", "darker")])
def test_each_look_changes_the_object_alone(look: str) -> None:
    check_look(look, scene(frames=5))


@pytest.mark.parametrize(("look", "light"), [("lighter", 0.5), ("darker", 1.0)])
def test_a_tone_suits_what_is_dark_or_light(look: str, light: float) -> None:
    shot = scene(frames=5)
    grey = np.where(shot.masks[..., None], shot.source[..., :1] * np.float32(light), shot.source).astype(np.uint8)
    check_look(look, Scene(grey, shot.background, shot.masks))


def check_look(look: str, shot: Scene) -> None:
    done = edit(shot.source, shot.masks, looks=[look])
    found = measure_local(shot.source, done.frames, shot.masks)
    assert found is not None
    assert found.outside < 0.5
    assert found.change > 8
    assert found.structure > 0.5, "it is still the same object"
    assert {name for name in done.facts if name.startswith("look_")} == {f"look_{look}"}


def test_the_seed_chooses_and_repeats() -> None:
    shot = scene(frames=3)
    made = [edit(shot.source, shot.masks, seed=seed) for seed in range(8)]
    looks = {next(n for n in one.facts if n.startswith("look_")) for one in made}
    assert len(looks) >= 3
    assert (made[0].frames == edit(shot.source, shot.masks, seed=0).frames).all()


def test_what_suits_follows_the_measured_colours() -> None:
    rng = np.random.default_rng(0)

    def names(*colours: tuple[int, int, int]) -> set[str]:
        pixels = (
            np.concatenate([np.array(c) + rng.normal(0, 4, (400, 3)) for c in colours]).clip(0, 255).astype(np.uint8)
        )
        return {look.name for look in suiting(find_paint(pixels), to_lab(pixels), 0)}

    assert "grey" not in names((235, 235, 235)), "it has no colour to lose"
    assert {"recolour", "stripes", "darker"} <= names((235, 235, 235))
    assert "darker" not in names((25, 25, 28))
    assert "grey" in names((200, 30, 30))
    assert not {"stripes", "two_colours"} & names((150, 100, 60), (240, 240, 235)), "blotches on a spotted dog"
    skin = (190, 140, 115)
    assert names((25, 25, 28), (25, 25, 28), (25, 25, 28), skin) <= set(MATERIALS), (
        "hair and shoes are as black as the clothes"
    )
    assert names((40, 70, 170), (40, 70, 170), (40, 70, 170), skin) == {"recolour"}, "a pattern would lie on the face"


def barrel(step: int, frames: int = 12) -> tuple[Clip, Any]:
    """A red square whose surface rolls upwards by `step` pixels a frame, before grey."""
    surface = np.clip(np.array((170, 40, 40)) + (texture(48 + step * frames, 48, 5)[..., :1] - 128.0) * 0.5, 0, 255)
    clip, masks = np.full((frames, *SIZE, 3), 128, np.uint8), np.zeros((frames, *SIZE), bool)
    masks[:, 30:78, 70:118] = True
    for t in range(frames):
        clip[t, 30:78, 70:118] = surface[step * t : step * t + 48].astype(np.uint8)
    return clip, masks


def test_two_colours_stay_on_what_can_be_followed_and_are_not_taken_where_one_rolls_away() -> None:
    still = edit(*barrel(0), looks=["two_colours"])
    assert still.facts["smaller_half"] > 0.4
    with pytest.raises(Reject, match="two_colours: the smaller half") as caught:
        edit(*barrel(3), looks=["two_colours"])
    assert caught.value.reason == "colour_unchanged"
    assert edit(*barrel(3), looks=["two_colours", "recolour"]).facts["look_recolour"] == 1


def test_a_change_that_fades_is_rejected() -> None:
    frames, masks, _ = car((200, 30, 30), frames=6)
    frames[4:] = frames[4:].mean(axis=-1, keepdims=True).astype(np.uint8)
    with pytest.raises(Reject) as caught:
        edit(frames, masks, looks=["recolour"])
    assert caught.value.reason in ("change_fades", "no_dominant_colour")


def test_the_part_of_a_neutral_paint_leaves_what_is_dark() -> None:
    lab = np.array([[80, 0, 2], [70, 1, 3], [20, 0, 0], [75, 30, 40]], np.float32)
    weight = PaintedPart(Paint("white", (78.0, 0.0, 2.0), 0.45), lab).weight(lab)
    assert weight == pytest.approx([1, 1, 0, 0])


def test_an_empty_mask_is_rejected() -> None:
    shot = scene(frames=3)
    with pytest.raises(Reject) as caught:
        edit(shot.source, np.zeros_like(shot.masks))
    assert caught.value.reason == "object_unseen"
