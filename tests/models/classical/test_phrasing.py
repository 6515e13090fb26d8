"""Phrases and sentences."""

from __future__ import annotations

import pytest

from ffpdata.core.prompt import split_words
from ffpdata.models.classical.phrasing import article, listing, noun, plain, promised_colours, sentence, with_colour

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


def test_articles_and_lists() -> None:
    assert [article(w) for w in ("cup", "orange cup", "glass", "dogs", "bus", "Audi")] == [
        "a cup",
        "an orange cup",
        "a glass",
        "dogs",
        "a bus",
        "an Audi",
    ]
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
