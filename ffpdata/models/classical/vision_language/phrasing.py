"""Words into sentences: users' phrases, articles, lists, and sentences of a given length."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from ffpdata.core.prompt import NEGATIONS, mentions, split_words

VAGUE = frozenset({"", "object", "moving object", "salient object", "thing"})
"""Phrases that name no category."""
MAX_PHRASE = 6
"""Largest number of words of a user's phrase, counted from its end."""
COLOUR_WORDS = frozenset(
    {"red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "black", "white", "grey", "gray"}
    | {"golden", "silver", "beige", "violet", "turquoise"}
)
"""Words that name a colour."""
PEOPLE = frozenset(
    {"person", "people", "man", "men", "woman", "women", "boy", "boys", "girl", "girls", "child", "children", "baby"}
    | {"player", "dancer", "rider", "worker", "astronaut", "lady", "kid", "kids"}
)
"""Words for people."""
SKIN_COLOURS = frozenset({"brown", "orange", "pink", "yellow"})
"""Colours that may be those of skin or hair."""
IRREGULAR_PLURALS = frozenset(
    {"men", "women", "people", "children", "feet", "teeth", "mice", "geese", "oxen", "police", "cattle"}
    | {"policemen", "firemen", "fishermen", "snowmen", "grandchildren"}
)
SINGULARS_ON_S = frozenset({"lens", "gas", "canvas", "atlas", "series", "species", "christmas", "mercedes"})
"""Words on `s` that are no plurals, beside those on `ss`, `us` and `is`."""
SPOKEN_WITH_VOWEL = "AEFHILMNORSX"
"""Letters whose names begin with a vowel: `an F`, but `a U`."""
SPELT = frozenset({"suv", "ufo", "uav", "led", "mri", "usb", "uhd", "uk", "usa", "uv", "utv"})
"""Abbreviations with a vowel in them that are read letter by letter, and whose article that changes."""
READ_IN_FULL = frozenset({"mr", "mrs", "ms", "mt", "st", "sr", "lt", "sgt"})
"""Words without a vowel that are not read letter by letter."""
CONSONANT_SOUND = re.compile(
    r"eu|ewe|one(?:s|self|ness|time)?$|once$|ouija|uni(?!dea|dent|mp|ma|n|ro|ss)|unanim|unary|ubiq|ukrain|u[fgkrstv][aeiou]"
)
"""How words begin that are written with a vowel and spoken without: `European`, `one`, `unit`, `user`."""
VOWEL_SOUND = re.compile(r"h(?:our|onest|onor|onour|eir)|x[^aeiouy]")
"""And the other way round: `hour`, `heirloom`, `Xbox`."""
ELEVEN_OR_EIGHT = re.compile(r"8|1[18](?:\d{2,3})?(?!\d)")
"""How numbers begin that are spoken as eight, eleven or eighteen: 8, 80, 11, 18,000, 1850, but not 110."""


def noun(phrase: object) -> str:
    """Return a user's phrase for the middle of a sentence: without article and punctuation, `MAX_PHRASE` words at most.

    A phrase without a category (`moving object`, an empty text, only punctuation) becomes `object`.
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
    """Put the colour before the noun, or behind people, who wear it; unless the phrase names one already.

    Colours that skin may have are not said of people.
    """
    words = {word.lower() for word in phrase.split()}
    if not colour or COLOUR_WORDS & words:
        return phrase
    if words & PEOPLE:
        worn = [one for one in colour.split(" and ") if one not in SKIN_COLOURS]
        return f"{phrase} in {' and '.join(worn)}" if worn else phrase
    return f"{colour} {phrase}"


def promised_colours(instruction: str) -> frozenset[str]:
    """Return the colours that an instruction asks for: those after its last `to`, `into` or `with`, if any."""
    promise = re.split(r"\b(?:to|into|with)\b", instruction.lower())[-1]
    return COLOUR_WORDS.intersection(split_words(promise))


def article(phrase: str) -> str:
    """Put `a` or `an` before a phrase, unless it looks like a plural or is empty."""
    last = phrase.rsplit(" ", 1)[-1].lower()
    ends_as_plural = last.endswith("s") and not last.endswith(("ss", "us", "is")) and last not in SINGULARS_ON_S
    if not phrase or ends_as_plural or last in IRREGULAR_PLURALS:
        return phrase
    return f"{'an' if _vowel_sound(phrase) else 'a'} {phrase}"


def _vowel_sound(phrase: str) -> bool:
    """Return whether a phrase is spoken with a vowel first; False for other scripts than Latin."""
    word = phrase.split(" ", 1)[0]
    if word[:1].isdigit():
        return bool(ELEVEN_OR_EIGHT.match(word))
    letters = "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))  # `é` is an `e`
    head = re.split(r"[\W\d_]", letters.lower(), maxsplit=1)[0]  # `t` of `T-shirt`, `one` of `one-eyed`
    if not head.isascii() or not head:
        return False
    if len(head) == 1 or head in SPELT or not (re.search("[aeiouy]", head) or head in READ_IN_FULL):
        return head[0].upper() in SPOKEN_WITH_VOWEL
    return bool(VOWEL_SOUND.match(head) or (head[0] in "aeiou" and not CONSONANT_SOUND.match(head)))


def listing(words: Sequence[str]) -> str:
    """Join words: `blue`, `blue and black`, `blue, black and white`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def sentence(start: str, clauses: Iterable[Sequence[str]], length: tuple[int, int], banned: str = "") -> str:
    """Build one sentence from `start` and as many clauses as it needs.

    Args:
        start: beginning, always used.
        clauses: in order of use, each a choice of wordings: the first that does not mention `banned` and still fits.
        length: fewest and most words. Clauses are added until the sentence has the fewest.
        banned: a phrase to leave out, in singular and plural.

    Returns:
        The sentence with its full stop; it is too short if the clauses do not suffice.
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
