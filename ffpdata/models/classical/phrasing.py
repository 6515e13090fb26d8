"""Words into sentences: phrases that users wrote, articles, lists, and sentences of a wanted length."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ffpdata.core.prompt import NEGATIONS, mentions, split_words

VAGUE = frozenset({"", "object", "moving object", "salient object", "thing"})
"""Phrases that say nothing about what the object is."""
MAX_PHRASE = 6
"""Words of a user's phrase that are kept."""
COLOUR_WORDS = frozenset(
    {"red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "black", "white", "grey", "gray"}
    | {"golden", "silver", "beige", "violet", "turquoise"}
)
"""Words that already say what colour a thing has."""


def noun(phrase: object) -> str:
    """Return a user's phrase fit for the middle of a sentence: no article, no punctuation, at most `MAX_PHRASE` words.

    A phrase that names nothing (`moving object`, an empty text, only signs) becomes `object`.
    """
    found = split_words(str(phrase or ""))
    while found and found[0].lower() in ("a", "an", "the"):
        found = found[1:]
    text = " ".join(word.lower() if word[1:].islower() or len(word) == 1 else word for word in found[-MAX_PHRASE:])
    return "object" if text.lower() in VAGUE else text


def plain(phrase: str) -> str:
    """Return `phrase` if it may stand in a caption, else `object`: captions carry no negations."""
    return "object" if any(word.lower() in NEGATIONS for word in phrase.split()) else phrase


def with_colour(phrase: str, colour: str) -> str:
    """Put the colour before the noun, unless the phrase names one already."""
    named = COLOUR_WORDS.intersection(word.lower() for word in phrase.split())
    return phrase if named or not colour else f"{colour} {phrase}"


def promised_colours(instruction: str) -> frozenset[str]:
    """Return the colours that an instruction asks for: those after its last `to` or `into`, where it has one."""
    promise = re.split(r"\b(?:in)?to\b", instruction.lower())[-1]
    return COLOUR_WORDS.intersection(split_words(promise))


def article(phrase: str) -> str:
    """Put `a` or `an` before a phrase, and nothing before what looks like a plural."""
    last = phrase.rsplit(" ", 1)[-1].lower()
    if last.endswith("s") and not last.endswith(("ss", "us", "is")):
        return phrase
    return f"{'an' if phrase[:1].lower() in 'aeiou' else 'a'} {phrase}"


def listing(words: Sequence[str]) -> str:
    """Join words: `blue`, `blue and black`, `blue, black and white`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def sentence(start: str, clauses: Iterable[Sequence[str]], length: tuple[int, int], banned: str = "") -> str:
    """Build one sentence of `start` and as many clauses as it takes.

    Args:
        start: how it begins; always used.
        clauses: in order of use, each a choice of wordings: the first that does not mention `banned` and still fits.
        length: fewest and most words. Clauses are added until the sentence has the fewest.
        banned: a phrase to leave out, in singular and plural.

    Returns:
        The sentence with its full stop; it is too short if the clauses do not reach.
    """
    text = start
    for wordings in clauses:
        if len(split_words(text)) >= length[0]:
            break
        for wording in wordings:
            longer = f"{text} {wording}" if wording.startswith("and ") else f"{text}, {wording}"
            if not mentions(wording, banned) and len(split_words(longer)) <= length[1]:
                text = longer
                break
    return re.sub(r"\s+", " ", text).strip() + "."
