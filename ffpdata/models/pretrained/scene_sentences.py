"""Sentences about a scene whose things have names: templates filled with detected and measured words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ffpdata.core.prompt import IRREGULAR_PLURALS, mentions
from ffpdata.models.classical.vision_language.phrasing import article, listing, plain, sentence
from ffpdata.models.classical.vision_language.sentences import scene_clauses

if TYPE_CHECKING:
    from ffpdata.models.classical.attributes import SceneDescription
    from ffpdata.models.pretrained.scene_things import SceneThings, Thing

NUMBERS = ("several", "a", "two", "three", "four", "five")
"""Words for how many; from six on they are `several`."""
MOST_THINGS = 3
"""Most kinds of things in a sentence."""
LIGHT = {"dark": "very dim light", "dim": "dim light", "softly lit": "soft light", "bright": "bright light"}

OWN_CAPTION = re.compile(rf"The video shows .{{1,160}}? in (?:{'|'.join(LIGHT.values())})\b")
"""Beginning of captions made here, which name no place beyond what was detected."""


def caption(scene: SceneDescription, found: SceneThings, length: tuple[int, int]) -> str:
    """Return the caption of a clip with named things, of `length` (fewest and most) words."""
    start = f"The video shows {listing(_said(found, found.things))} in {LIGHT[scene.light]}"
    return sentence(start, _clauses(scene, found), length)


def caption_without(scene: SceneDescription, found: SceneThings, banned: str, length: tuple[int, int]) -> str:
    """Return a caption that names what else is in the scene, and never `banned`."""
    rest = [one for one in found.things if not mentions(one.name, banned) and not mentions(banned, one.name)]
    places = [f"{article(found.support)}"] if found.support and not mentions(found.support, banned) else []
    places += [f"{article(found.ground)} surface"] if found.ground and not places else []
    said = [*_placed(rest[:MOST_THINGS]), *(p for p in places if not mentions(p, banned))]
    light = LIGHT[scene.light]
    starts = [f"The video shows {listing(said)} in {light}"] if said else []
    starts += [f"The video shows {word} in {light}" for word in ("a place", "a view", "a scene")]
    start = next((one for one in starts if not mentions(one, banned)), "The video shows this")
    clauses = _clauses(scene, found)
    return sentence(start, clauses, length, banned)


def things(found: SceneThings) -> str:
    """Return the things in a list: `a car and two people`."""
    return listing([counted(one) for one in found.things[:MOST_THINGS]])


def counted(thing: Thing) -> str:
    """Return a thing with its number: `a cup`, `two people`, `several cars`."""
    if thing.count == 1:
        return article(thing.name)
    number = NUMBERS[thing.count] if 0 < thing.count < len(NUMBERS) else NUMBERS[0]
    return f"{number} {plural(thing.name)}"


def plural(name: str) -> str:
    """Return the plural of a detector's word."""
    head, _, last = name.rpartition(" ")
    if last == "cattle":
        return name
    many = IRREGULAR_PLURALS.get(last) or (f"{last}es" if last.endswith(("s", "x", "ch")) else f"{last}s")
    return f"{head} {many}".strip()


def _said(found: SceneThings, wanted: Sequence[Thing]) -> list[str]:
    """Return the things with their places; the first one with what it is on."""
    first, rest = wanted[0], wanted[1:MOST_THINGS]
    if found.support:
        return [f"{counted(first)} on {article(found.support)}", *_placed(rest)]
    if found.ground and first.count == 1:
        return [f"{counted(first)} on {article(found.ground)} surface", *_placed(rest)]
    return list(_placed([first, *rest]))


def _placed(wanted: Iterable[Thing]) -> Iterable[str]:
    for one in wanted:
        side = "in the middle" if one.side == "middle" else f"on the {one.side}" if one.side else ""
        yield f"{counted(one)} {side}".rstrip()


def _clauses(scene: SceneDescription, found: SceneThings) -> list[Sequence[str]]:
    """Return clauses about the scene around the things, each in its wordings, in order of use."""
    top, middle, bottom = scene.bands
    below = [] if found.ground or found.support or bottom == middle else [f"{bottom} below"]
    around = [f"{article(top)} background"] if top == middle else [f"{top} at the top", f"{middle} behind"]
    return [
        (f"with {listing([*around, *below])}", f"{top} above, {middle} between and {bottom} below"),
        (f"{scene.detail} surfaces", f"{scene.detail} areas"),
        *scene_clauses(scene)[2:],
    ]


def names_for(objects: Iterable[str], most: int) -> list[str]:
    """Return the different names among `objects`, `most` at most, in their order, that may stand in a caption."""
    return list(dict.fromkeys(name for name in objects if plain(name) == name))[:most]
