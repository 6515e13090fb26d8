"""The sentences of `TemplateVision`: templates filled with measured words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ffpdata.core.prompt import mentions, split_words
from ffpdata.models.classical.attributes import ObjectDescription, SceneDescription
from ffpdata.models.classical.modification.materials import MATERIALS
from ffpdata.models.classical.vision_language.change_measures import LocalChange
from ffpdata.models.classical.vision_language.phrasing import (
    COLOUR_WORDS,
    PEOPLE,
    article,
    listing,
    plain,
    sentence,
    with_colour,
)

OWN_CAPTION = re.compile(r"The video shows (?:.{1,80}? in )?an? (?:dark|dim|softly lit|bright) (?:scene|view|place),")
"""Beginning of captions made here, which name no place beyond the measured words."""
PLACING = re.compile(
    r"\b(?:in|on|across|through|along|beside|near|behind|under|over|inside|outside|at)\s+(?=(?:an?|the|its)\b)"
)
"""Prepositions that start the place in a user's caption."""
ABOUT_OBJECT = frozenset(
    {"its", "his", "her", "their", "it", "he", "she", "they", "who", "which", "that", "while", "as"}
)
PAINTED_ON = ("stripes", "dots", "checks")
"""Looks that are painted onto an object and leave its own colour between."""
MOST_OF_IT = 0.45
"""Share of an object from which its paint stands for all of it."""
ALL_OF_IT = 0.98
"""Share of a person from which an edit is one of all of them, and not of clothes of one colour."""
PICTURE_WORDS = ("painting", "drawing", "sketch", "print", "art", "style", "mosaic", "comic", "woodcut", "watercolour")
"""Last words of styles that name a kind of picture."""


def scene_clauses(scene: SceneDescription) -> list[Sequence[str]]:
    """Return clauses about a scene, the most specific first, each in two wordings."""
    top, middle, bottom = scene.bands
    if top == middle == bottom:
        bands = (f"mostly {top} from top to bottom", f"{top} nearly everywhere")
    elif top == middle:
        bands = (f"mostly {top} with {bottom} at the bottom", f"{top} above and {bottom} below")
    elif middle == bottom:
        bands = (f"mostly {middle} with {top} at the top", f"{top} above and {bottom} below")
    else:
        bands = (
            f"{top} at the top, {middle} across the middle and {bottom} at the bottom",
            f"{top} above, {middle} between and {bottom} below",
        )
    halves = f"the {scene.lighter} half lighter than the other" if scene.lighter else "both halves about equally light"
    parts = f"the {scene.lighter} part lighter than the rest" if scene.lighter else "equally light above and below"
    return [
        bands,
        (f"with {scene.detail} surfaces", f"with {scene.detail} areas"),
        (f"and {scene.contrast} contrast between light and dark parts", f"and {scene.contrast} changes of brightness"),
        (f"in {scene.colour} colours of a {scene.tone} tone", f"in {scene.colour} hues of a {scene.tone} cast"),
        (halves, parts),
        ("staying like this from beginning to end", "keeping this look throughout"),
        (f"the main colour being {middle} and the light {scene.light}", f"{scene.light} and {scene.tone} on the whole"),
        ("and everything lasting keeps to its place in the picture", "and much remains where it is all the time"),
    ]


def caption(scene: SceneDescription, phrase: str, length: tuple[int, int]) -> str:
    """Return the caption of a clip, with the object where its phrase is allowed in captions."""
    phrase = plain(phrase)
    subject = "" if phrase == "object" else f"{article(phrase)} in "
    return sentence(f"The video shows {subject}{article(scene.light)} scene", scene_clauses(scene), length)


def caption_without(scene: SceneDescription, user_caption: str, banned: str, length: tuple[int, int]) -> str:
    """Return a caption without the object: the place in the user's caption, and the measured surroundings."""
    place = surroundings(user_caption, banned)
    starts = [f"The video shows {place}"] if place else []
    starts += [f"The video shows {article(scene.light)} {word}" for word in ("scene", "view", "place")]
    start = next((s for s in starts if not mentions(s, banned)), "The video shows this")
    return sentence(start, scene_clauses(scene), length, banned)


def surroundings(user_caption: str, banned: str) -> str:
    """Return the place in a user's caption, e.g. `a paved yard with green plants`, or an empty string."""
    if not user_caption or OWN_CAPTION.match(user_caption):
        return ""
    for found in PLACING.finditer(user_caption):
        place = re.split(r"[.;:!?]|,\s+(?:where|while|as|and)\b", user_caption[found.end() :])[0].strip(" ,")
        words = [word.lower() for word in split_words(place)]
        if 2 <= len(words) <= 24 and not ABOUT_OBJECT.intersection(words) and not mentions(place, banned):
            return place if plain(place) == place else ""
    return ""


def cinematic(scene: SceneDescription) -> str:
    """Return the caption that guides the animation of a still."""
    bands = scene_clauses(scene)[0][0]
    return (
        f"{article(scene.light).capitalize()} scene in {scene.colour} colours, {bands}. The light has a {scene.tone} "
        f"tone with {scene.contrast} contrast, and the surfaces are {scene.detail}. The camera moves slowly and evenly "
        "through the scene; what is near glides past a little faster than what is far, and everything keeps its shape."
    )


def style_name(reference: SceneDescription, colours: Sequence[str]) -> str:
    """Return a short name for a style: texture and palette, at most six words."""
    texture = {"smooth": "smooth", "lightly textured": "textured", "finely detailed": "intricate"}[reference.detail]
    return f"{texture} {listing(colours[:2])}"


def style_caption(reference: SceneDescription, colours: Sequence[str], scene: SceneDescription) -> str:
    """Return the caption of a stylized clip."""
    marks = {
        "smooth": "smooth, even areas of colour",
        "lightly textured": "visible, textured marks",
        "finely detailed": "dense, fine marks",
    }[reference.detail]
    return (
        f"The whole video is rendered in a palette of {listing(colours)}, {reference.colour} in colour and "
        f"{reference.tone} in tone, with {marks} on every surface and {reference.contrast} contrast between light and "
        f"dark. The {scene.light} scene keeps its layout, its shapes and its motion under the new surface."
    )


def where(thing: ObjectDescription) -> str:
    """Return what distinguishes an object, its motion or else its place, with a leading space; or an empty string."""
    words = thing.motion or thing.place
    return f" {words}" if words else ""


def remove(phrase: str, thing: ObjectDescription) -> str:
    """Return the instruction of a removal."""
    return _long_enough(f"Remove the {_described(phrase, thing)}{where(thing)}", "from the video")


def add(phrase: str, thing: ObjectDescription) -> str:
    """Return the instruction of an addition."""
    return _long_enough(f"Add {article(_described(phrase, thing))}{where(thing)}", "to the video")


def swap(phrase: str, thing: ObjectDescription, found: LocalChange) -> str:
    """Return the instruction of a swap; only the new object's colour is known."""
    other = article(f"{found.after[0]} object" if found.after else "different object")
    return _long_enough(f"Replace the {_described(phrase, thing)}{where(thing)} with {other}", "in its place")


def modify(
    phrase: str,
    thing: ObjectDescription,
    found: LocalChange,
    look: str = "",
    painted: float = 1.0,
    *,
    colour: str = "",
) -> str:
    """Return the instruction of a modification.

    Args:
        phrase: what people call the object.
        thing: what was measured on it.
        found: what changed, in measured colours.
        look: name of the look that it got, where the editor says so: `stripes`, `two_colours`, ...
        painted: share of the object that carries the changed paint.
        colour: the new colour as the editor calls it: it is said where it is seen, too; shaded yellow is brown.
    """
    if phrase == "object":  # it has no name of its own: its colour tells it from others
        phrase = with_colour(phrase, thing.colour)
    moving = thing.motion and not phrase.startswith("moving")  # `from left to right from blue to red` is hard to read
    name = f"moving {phrase}" if moving else f"{phrase}{where(thing)}"
    old, new = (found.before[:1] or ("",))[0], colour if colour in found.after else (found.after[:1] or ("",))[0]
    named = COLOUR_WORDS.intersection(phrase.lower().split())
    if look in MATERIALS:
        return f"Turn the {name} into {MATERIALS[look].words}."
    people = PEOPLE.intersection(phrase.lower().split())  # nobody is of one colour
    part = painted < (ALL_OF_IT if people else MOST_OF_IT)
    if part and old and not named:
        name = f"{old} parts of the {name}"
    if look in PAINTED_ON and new:
        return f"Paint the {name} with {new} {look}."
    if look == "two_colours" and len(found.after) > 1:
        return f"Paint the {name} in two colours, with {found.after[0]} and {found.after[1]} halves."
    if look == "two_colours" and new:
        return f"Paint the {name} in two shades of {new}."
    tone = look in ("darker", "lighter")
    if old and new and old != new and not tone:
        origin = "" if named or part else f" from {old}"
        return f"Change the colour of the {name}{origin} to {new}."
    steps = [(found.light, 6, "lighter", "darker"), (found.chroma, 8, "more vivid", "paler")]
    for value, least, more, less in steps:
        if abs(value) >= least:
            return _long_enough(f"Make the {name} {more if value > 0 else less}", "than now")
    return _long_enough(f"Change the look of the {name}", "a little")


def restyle(style: str, reference: SceneDescription, colours: Sequence[str]) -> str:
    """Return the instruction of a stylization."""
    kind = style if style.lower().endswith(PICTURE_WORDS) else f"{style} picture"
    names_colour = COLOUR_WORDS.intersection(word.lower() for word in split_words(style))
    rest = (
        f"{reference.contrast} contrast and {reference.colour} colours"
        if names_colour
        else f"a palette of {listing(colours)}"
    )
    return f"Restyle the whole video as {article(kind)}, with {rest}."


def shortened(instruction: str, task: str, phrase: str) -> str:
    """Return the same instruction in at most ten words: without the place, the motion and the old colour."""
    text = instruction.strip().rstrip(".!")
    if task in ("removal", "text_removal", "addition"):
        return f"{'Add' if task == 'addition' else 'Remove'} the {phrase}."
    if task == "stylization":
        kind = re.search(r"\bas (an? [^,]+)", text)
        return f"Restyle the video{f' as {kind[1]}' if kind else ''}."
    colour = re.search(r"\bto (?:an? )?([\w-]+(?: and [\w-]+)?)$", text)
    if text.startswith("Change the colour") and colour:
        return f"Make the {phrase} {colour[1]}."
    paint = re.search(r"\b(with [^,]+|in two colours\b.*)$", text)
    if text.startswith("Paint") and paint:
        return f"Paint the {phrase} {paint[1]}."
    if text.startswith("Replace") and " with " in text:
        new = re.sub(r" in its place$", "", text.rsplit(" with ", 1)[1])
        return f"Replace the {phrase} with {new}."
    look = re.search(r"\b(more vivid|paler|lighter|darker)\b", text)
    return f"Make the {phrase} {look[1]}." if look else f"{text}."


def extended(instruction: str, task: str) -> str:
    """Return the same instruction with what must stay as it is."""
    kept = {
        "removal": "so that the place behind it is seen as if it had never been there, and leave all else as it is",
        "text_removal": "so that the picture behind it is seen, and leave everything else as it is",
        "modification": "and keep its shape, its motion and everything around it exactly as they are",
        "swap": "moving as it moves now, and keep everything around it exactly as it is",
        "stylization": "while the layout, the shapes and the motion of the whole clip stay as they are",
    }.get(task, "and keep everything else in the video exactly as it is")
    return f"{instruction.strip().rstrip('.!')}, {kept}."


def asked_casually(short: str) -> str:
    """Return a short instruction as one would say it."""
    text = short.strip().rstrip(".!")
    return f"Hey, could you {text[:1].lower()}{text[1:]} for me?"


def _described(phrase: str, thing: ObjectDescription) -> str:
    """Add the object's colour, and its size where its phrase is only `object`."""
    full = with_colour(phrase, thing.colour)
    return f"{thing.size} {full}" if thing.size and phrase == "object" else full


def _long_enough(text: str, filler: str) -> str:
    return f"{text}." if len(split_words(text)) >= 5 else f"{text} {filler}."
