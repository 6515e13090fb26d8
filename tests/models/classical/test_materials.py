"""Materials: one ramp over an object's lightness, whatever its colours."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.core.prompt import split_words
from ffpdata.models.classical.attributes import ObjectDescription
from ffpdata.models.classical.modification.materials import GAIN, MATERIALS, Cast
from ffpdata.models.classical.vision_language.change_measures import LocalChange
from ffpdata.models.classical.vision_language.sentences import modify


def pixels(low: float, high: float, chroma: float = 20.0) -> np.ndarray:
    rng = np.random.default_rng(3)
    light = rng.uniform(low, high, 4000)
    return np.stack([light, rng.normal(0, chroma, 4000), rng.normal(0, chroma, 4000)], axis=1).astype(np.float32)


@pytest.mark.parametrize("name", MATERIALS)
@pytest.mark.parametrize("span", [(2, 30), (10, 90), (70, 98)])
def test_light_parts_stay_lighter_and_contrasts_are_kept(name: str, span: tuple[float, float]) -> None:
    lab = pixels(*span)
    cast = Cast(MATERIALS[name], lab)
    steps = np.zeros((20, 3), np.float32)
    steps[:, 0] = np.linspace(*span, 20)
    after = cast.change(steps)[:, 0]
    assert (np.diff(after) >= -1e-4).all()
    assert GAIN[0] * 0.9 < (after[-3] - after[2]) / (steps[-3, 0] - steps[2, 0]) < GAIN[1] * 1.01


@pytest.mark.parametrize("name", ["gold", "jade"])
def test_every_colour_gets_the_materials_hue(name: str) -> None:
    lab = pixels(20, 80, chroma=30)
    after = Cast(MATERIALS[name], lab).change(lab)
    body = MATERIALS[name].ramp[2]
    hues = np.degrees(np.arctan2(after[:, 2], after[:, 1])) - np.degrees(np.arctan2(body[2], body[1]))
    assert np.abs((hues + 180) % 360 - 180).max() < 45
    assert Cast(MATERIALS[name], lab).distance(lab) > 25


def test_what_is_marble_already_is_near_it() -> None:
    lab = pixels(60, 97, chroma=1)
    assert Cast(MATERIALS["marble"], lab).distance(lab) < 12


@pytest.mark.parametrize("name", MATERIALS)
def test_the_instruction_names_the_material(name: str) -> None:
    told = modify("dog", ObjectDescription(place="on the left"), LocalChange(), look=name)
    assert told == f"Turn the dog on the left into {MATERIALS[name].words}."
    assert len(split_words(modify("dog", ObjectDescription(), LocalChange(), look=name))) >= 5


def test_the_painted_colour_is_said_where_it_is_seen() -> None:
    found = LocalChange(before=("red",), after=("brown", "yellow"))
    told = modify("apple", ObjectDescription(), found, look="stripes", colour="yellow")
    assert told == "Paint the apple with yellow stripes."
    assert "brown" in modify("apple", ObjectDescription(), found, look="stripes", colour="blue")


def test_all_of_a_person_is_said_where_all_of_them_changes() -> None:
    found = LocalChange(before=("black",), after=("purple",))
    assert "black parts" in modify("person", ObjectDescription(), found, look="recolour", painted=0.6)
    assert "parts" not in modify("person", ObjectDescription(), found, look="stripes", painted=1.0)


def test_an_object_without_a_name_is_told_by_its_colour() -> None:
    thing = ObjectDescription(colour="red", place="on the left")
    assert modify("object", thing, LocalChange(), look="gold") == "Turn the red object on the left into polished gold."
    found = LocalChange(before=("red",), after=("blue",))
    assert modify("object", thing, found) == "Change the colour of the red object on the left to blue."
