"""Whether an instruction's words agree with a pair."""

from __future__ import annotations

import numpy as np
import pytest

from ffpdata.metrics.words import SeenColours, instruction_colours, instruction_object, instruction_task, seen_colours


@pytest.mark.parametrize(
    ("text", "task", "agreement"),
    [
        ("Remove the ball moving from left to right.", "removal", 1),
        ("Get rid of the small dog.", "removal", 1),
        ("Erase the words at the top.", "text_removal", 1),
        ("Change the colour of the ball from red to green.", "modification", 1),
        ("Turn the car into a red one.", "modification", 1),
        ("Make the horse darker than it is now.", "modification", 1),
        ("Replace the dog with a cat in its place.", "swap", 1),
        ("Turn the dog into a cat.", "swap", 1),
        ("Restyle the whole video as a textured dark blue picture, with gentle contrast.", "stylization", 1),
        ("Render it in the style of a woodcut.", "stylization", 1),
        ("Change the video to look like an oil painting in the style of the reference.", "stylization", 1),
        ("Put the dog before another background.", "background", 1),
        ("Remove the ball from the video.", "modification", 0),
        ("Change the colour of the ball from red to blue.", "removal", 0),
        ("Replace the ball with a wooden box.", "removal", 0),
        ("Restyle the whole video as a pencil drawing.", "modification", 0),
        ("Remove the person from the whole video.", "stylization", 0),
        ("Change the colour of the ball from red to green.", "stylization", 0),
        ("Something else happens now.", "removal", 0.5),
        ("Whatever it says.", "a task of somebody's own", None),
    ],
)
def test_the_verbs_are_those_of_the_task(text: str, task: str, agreement: float | None) -> None:
    assert instruction_task(text, task) == agreement


RED_TO_GREEN = SeenColours(("red", "brown"), ("green",))


@pytest.mark.parametrize(
    ("text", "task", "agreement"),
    [
        ("Change the colour of the ball from red to green.", "modification", 1),
        ("Turn the red ball into a green one.", "modification", 1),
        ("Change the colour of the ball from red to yellow.", "modification", 0.5),
        ("Change the colour of the ball from red to purple.", "modification", 0),
        ("Change the colour of the ball from blue to green.", "modification", 0),
        ("Make the ball lighter than it is now.", "modification", None),
        ("Make the red ball green.", "modification", 1),
        ("Hey, could you make the ball green for me?", "modification", 1),
        ("Paint the ball blue.", "modification", 0),
        ("Make the blue ball green.", "modification", 0),
        ("Make the red ball darker.", "modification", 1),
        ("Remove the red ball.", "removal", 1),
        ("Remove the cyan ball.", "removal", 0),
        ("Restyle the video as a dark green picture, with clear contrast.", "stylization", 1),
        ("Restyle the video as a green and pink picture, with clear contrast.", "stylization", 0),
    ],
)
def test_the_colours_are_those_that_are_there(text: str, task: str, agreement: float | None) -> None:
    assert instruction_colours(text, task, RED_TO_GREEN) == agreement


def test_the_object_is_named() -> None:
    assert instruction_object("Remove the two dogs.", "brown dog") == 1
    assert instruction_object("Remove the cat.", "dog") == 0
    assert instruction_object("Remove the cat.", "moving object") is None


def test_colours_are_seen_where_the_object_is() -> None:
    source = np.full((3, 40, 60, 3), 128, np.uint8)
    masks = np.zeros((3, 40, 60), bool)
    masks[:, 10:30, 10:40] = True
    target = source.copy()
    source[masks], target[masks] = (210, 20, 20), (20, 60, 220)
    assert seen_colours(source, target, masks) == SeenColours(("red",), ("blue",))
    style = np.full((30, 30, 3), (230, 220, 30), np.uint8)
    assert seen_colours(source, target, None, style).after[-1] == "yellow"
