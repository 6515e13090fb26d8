"""What a scene holds, from detections: what is there all the time, how many, where, on what; and how that is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ffpdata.core.prompt import Prompt
from ffpdata.models.classical.attributes import describe_scene
from ffpdata.models.pretrained.detector import Detection
from ffpdata.models.pretrained.scene_sentences import OWN_CAPTION, caption, caption_without, counted, plural, things
from ffpdata.models.pretrained.scene_things import SceneThings, Thing, scene_things

FOLDER = Path(__file__).parents[3] / "prompts"
CLIP = np.full((9, 100, 200, 3), 200, np.uint8)
CLIP[:, 60:] = (40, 120, 40)  # a lawn below a light grey sky
CAPTION, REMOVAL = ((18, 30), (35, 60))


class Found:
    """Detections that are known, frame by frame."""

    def __init__(self, *frames: list[Detection]) -> None:
        self.frames = list(frames)

    def detect(self, frame: np.ndarray, *, least: float) -> list[Detection]:
        found = self.frames.pop(0) if len(self.frames) > 1 else self.frames[0]
        return [d for d in found if d.score >= least]


def seen(label: str, score: float, *box: float) -> Detection:
    return Detection(label, score, (box[0], box[1], box[2], box[3]))


DOG, PERSON = seen("dog", 0.7, 90, 60, 120, 80), seen("person", 0.6, 10, 20, 30, 80)


def test_a_thing_counts_where_every_frame_shows_it() -> None:
    found = scene_things(CLIP, Found([DOG, PERSON], [PERSON], [DOG, PERSON]))
    assert [one.name for one in found.things] == ["person"]
    assert found.things[0].side == "left"
    assert found.ground == "green"


def test_a_number_is_said_where_it_holds() -> None:
    other = seen("person", 0.5, 150, 20, 170, 80)
    part = seen("person", 0.5, 12, 25, 28, 50)  # the same person once more
    [two] = scene_things(CLIP, Found([PERSON, other], [PERSON, other, part])).things
    assert (counted(two), two.side) == ("two people", "")
    [one] = scene_things(CLIP, Found([PERSON, other], [PERSON])).things
    assert counted(one) == "a person", "at least one is there all the time"
    third = seen("person", 0.5, 100, 20, 120, 80)
    [some] = scene_things(CLIP, Found([PERSON, other], [PERSON, other, third])).things
    assert counted(some) == "several people"


def test_an_unsure_detection_is_not_said_and_another_name_for_a_thing_is_the_same_thing() -> None:
    cat = seen("cat", 0.5, 90, 60, 120, 80)
    found = scene_things(CLIP, Found([DOG, seen("car", 0.35, 0, 0, 9, 9)], [cat]))
    assert [one.name for one in found.things] == ["dog"]


def test_a_cup_is_on_its_table() -> None:
    cup, table = seen("coffee cup", 0.6, 80, 40, 100, 70), seen("table", 0.5, 0, 50, 200, 100)
    found = scene_things(CLIP, Found([cup, table]))
    assert found.support == "table"
    assert "a cup on a table" in caption(describe_scene(CLIP), found, CAPTION)


def test_the_object_comes_first() -> None:
    assert things(scene_things(CLIP, Found([PERSON, DOG]), "dog")) == "a dog and a person"


@pytest.mark.parametrize(
    ("name", "many"), [("cup", "cups"), ("person", "people"), ("box", "boxes"), ("computer mouse", "computer mice")]
)
def test_plurals(name: str, many: str) -> None:
    assert plural(name) == many


def violations(name: str, text: str, **fields: str) -> list[str]:
    return Prompt.load(FOLDER / f"{name}.yaml").violations({"caption": text}, fields)


@pytest.mark.parametrize("label", ["dog", "person", "coffee cup", "computer mouse", "table"])
@pytest.mark.parametrize("light", [0.1, 0.4, 1.0])
def test_captions_keep_their_rules_and_a_removal_never_names_the_object(label: str, light: float) -> None:
    clip = (CLIP * light).astype(np.uint8)
    found = scene_things(clip, Found([seen(label, 0.7, 90, 40, 120, 80), PERSON, seen("chair", 0.5, 150, 0, 199, 90)]))
    assert found.things
    own = caption(describe_scene(clip), found, CAPTION)
    assert violations("caption", own) == []
    assert OWN_CAPTION.match(own)
    for one in found.things:
        text = caption_without(describe_scene(clip), found, one.name, REMOVAL)
        assert violations("removal_caption", text, object=one.name) == []
        assert all(counted(other) in text for other in found.things if other is not one)


def test_a_scene_that_holds_the_object_alone_is_told_by_its_colours() -> None:
    found = SceneThings((Thing("dog", "dog", 1, "", (90, 60, 120, 80)),), "", "green")
    text = caption_without(describe_scene(CLIP), found, "dog", REMOVAL)
    assert text.startswith("The video shows a green surface in ")
    green = caption_without(describe_scene(CLIP), found, "green", REMOVAL)
    assert violations("removal_caption", green, object="green") == []
