"""Phrases and sentences."""

from __future__ import annotations

import pytest

from ffpdata.core.prompt import split_words
from ffpdata.models.classical.vision_language.phrasing import (
    article,
    listing,
    noun,
    plain,
    promised_colours,
    sentence,
    with_colour,
)

CLAUSES = [("grey at the top", "grey above"), ("with smooth surfaces",), ("and gentle contrast",), ("lasting",)]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Dog", "dog"),
        ("  the red  toy-car. ", "red toy-car"),
        ("A BMW", "BMW"),
        ("moving object", "object"),
        ("", "object"),
        (None, "object"),
        ("?!", "object"),
        ("the", "object"),
        ("one two three four five six seven eight", "three four five six seven eight"),
        ("Mr. Bean", "mr bean"),
        ("собака", "собака"),
    ],
)
def test_a_users_phrase_is_made_to_fit(given: str | None, kept: str) -> None:
    assert noun(given) == kept


def test_a_negation_may_not_stand_in_a_caption() -> None:
    assert plain("no entry sign") == "object"
    assert plain("street sign") == "street sign"


def test_a_colour_is_said_once() -> None:
    assert with_colour("ball", "red") == "red ball"
    assert with_colour("red ball", "brown") == "red ball"
    assert with_colour("ball", "") == "ball"
    assert with_colour("person", "blue") == "person in blue"
    assert with_colour("young woman", "brown and white") == "young woman in white", "brown may be her hair"
    assert with_colour("person", "brown") == "person"


@pytest.mark.parametrize(
    "right",
    """a cup/an orange cup/a red astronaut/an astronaut/an Audi/an 8 metre pole/an 80s car/an 11th player
    an 18,000 litre tank/an 1850 house/a 110 volt lamp/a 1 euro coin/an hour/an hourglass/an honest man
    an heirloom/a horse/a house/a hot dog/a unicorn/a unicycle/a uniform/a UNICORN/an unidentified object
    an unimpressed cat/an uninvited guest/a user/a used car/a ukulele/a Ukrainian flag/an umbrella/an uncle
    an urn/a urinal/a utensil/a U-turn sign/a European car/a eucalyptus/a ewe/an Ewok/a one-eyed cat/a one
    an onion/an only child/a once white wall/an ouzo bottle/an SUV/an suv/a BMW/a UFO/a ufo/an LED lamp
    an X-ray/a T-shirt/an L-shaped sofa/an F-16/an RV/an MRI scanner/an IBM laptop/a NASA rocket/a TV/a mr bean
    a yellow ball/a gypsy wagon/a xylophone/an Xbox/an éclair/an île/a собака/a glass/a bus/a lens/an axis
    a canvas/an ice-cream van/an e-bike/an umpire/a uvula/a wheel/a yo-yo""".replace("\n", "/").split("/"),
)
def test_articles_go_by_sound(right: str) -> None:
    phrase = right.strip().split(" ", 1)[1]
    assert article(phrase) == right.strip()


def test_plurals_have_no_article() -> None:
    for phrase in ("dogs", "red cups", "people", "two women", "hours", "SUVs", ""):
        assert article(phrase) == phrase


def test_lists() -> None:
    assert [listing(["a"]), listing(["a", "b"]), listing(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


def test_a_sentence_is_as_long_as_wanted() -> None:
    assert sentence("The video shows a scene", CLAUSES, (5, 20)) == "The video shows a scene."
    assert sentence("The video shows a scene", CLAUSES, (10, 20)) == (
        "The video shows a scene, grey at the top, with smooth surfaces."
    )
    assert len(split_words(sentence("The video shows a scene", CLAUSES, (20, 9)))) <= 9


def test_a_banned_word_is_gone_round() -> None:
    text = sentence("The video shows a scene", CLAUSES, (40, 60), banned="top")
    assert text == "The video shows a scene, grey above, with smooth surfaces and gentle contrast, lasting."
    assert "surface" not in sentence("The video shows a scene", CLAUSES, (40, 60), banned="surface")


def test_the_colours_that_an_instruction_promises() -> None:
    assert promised_colours("Change the colour of the cup from blue to dark red.") == {"red"}
    assert promised_colours("Turn the white cup into a golden one") == {"golden"}
    assert promised_colours("Make the cup green") == {"green"}
    assert promised_colours("Change the look of the cup a little.") == frozenset()
