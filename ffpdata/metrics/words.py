"""Whether an instruction's words agree with what was measured: the kind of edit, the colours, the object."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ffpdata.models.classical.attributes import palette, sample_frames
from ffpdata.models.classical.colour import NAMES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]
    Masks = NDArray[np.bool_]

WORDS = ("instruction_task", "instruction_colours", "instruction_object")
"""Columns of the agreement."""

_KINDS = {
    "removal": r"remov\w*|eras\w*|delet\w*|eliminat\w*|get\w* rid of|tak\w+ (out|away)|clear\w* away|make .*disappear",
    "swap": r"replac\w*|swap\w*|substitut\w*|exchang\w*|(turn|change|transform|convert)\w* .*\binto\b|switch\w*",
    "modification": r"recolou?r\w*|repaint\w*|paint\w*|dye\w*|tint\w*|colou?r\b|look of|"
    r"(turn|make|change|give|set|modify|convert|transform|switch)\w*",
    "stylization": r"restyl\w*|styli[sz]\w*|style|in the manner of|(render|redraw|repaint)\w*|"
    r"as an? [\w\s-]*(picture|painting|drawing|sketch|engraving|print|woodcut|cartoon|watercolou?r|mosaic)",
    "addition": r"add\w*|insert\w*|place|put",
    "background": r"background|surroundings|backdrop|another place|scenery|setting|move .* to",
}
"""Kind of edit to the words that ask for it."""
KIND_OF = {"text_removal": "removal"}
"""Tasks whose instructions are worded as another one's."""
_TOLERATED = {
    "swap": {"modification"},
    "modification": {"swap"},
    "background": {"swap", "modification", "addition"},
    "stylization": {"modification", "swap"},
}
"""Kinds whose words may stand in the instruction of a kind, beside its own."""

_SYNONYMS = {
    **dict.fromkeys(("crimson", "scarlet", "maroon"), "red"),
    **dict.fromkeys(("golden", "gold"), "yellow"),
    **dict.fromkeys(("turquoise", "teal"), "cyan"),
    "gray": "grey",
    "silver": "grey",
    "violet": "purple",
    "magenta": "pink",
    "beige": "brown",
    "navy": "blue",
}
_NEIGHBOURS = tuple(
    set(names.split())
    for names in (
        *("red orange", "red brown", "red pink", "orange yellow", "orange brown", "brown yellow", "yellow green"),
        *("green cyan", "cyan blue", "blue purple", "purple pink", "black grey", "grey white"),
    )
)
"""Colours that people do not name alike: half an agreement."""
_NEW = r"\b(to|into|with)\b"
"""Words after which an instruction says what is there afterwards."""


_MADE = re.compile(
    rf"\b(?:{'|'.join((*NAMES, *_SYNONYMS))})(?:,? and (?:{'|'.join((*NAMES, *_SYNONYMS))}))?"
    r"(?=\s*(?:[.,;!?]|$|(?:for|all|instead|please|now|everywhere)\b))"
)
"""A colour that ends what is said, and is no adjective of a thing: what `make`, `paint` or `dye` ask for."""


@dataclass(frozen=True)
class SeenColours:
    """Names of the colours of what was edited, in the source and in the target, the commonest first."""

    before: tuple[str, ...]
    after: tuple[str, ...]


def instruction_task(instruction: str, task: str) -> float | None:
    """Agreement of the instruction's verbs with the task: 1 its own, 0.5 none that is known, 0 another task's only."""
    kind = KIND_OF.get(task, task)
    if kind not in _KINDS:
        return None
    text = instruction.lower()
    asked = {name for name, words in _KINDS.items() if re.search(rf"\b(?:{words})", text)}
    if kind in asked:
        # "Replace the dog" in a modification is another task, "turn the dog into a black one" is not.
        foreign = asked - {kind} - _TOLERATED.get(kind, set())
        first = min(asked, key=lambda name: re.search(rf"\b(?:{_KINDS[name]})", text).start())  # type: ignore[union-attr]
        return 0.0 if first in foreign else 1.0
    return 0.0 if asked else 0.5


def instruction_colours(instruction: str, task: str, seen: SeenColours) -> float | None:
    """Least agreement of a colour that the instruction names with those that were measured; None where it names none.

    1 is a colour that is there, 0.5 one beside it, 0 one that is not there. What stands behind `to`, `into` or `with`
    is looked for in the target, what stands before it in the source.
    """
    text = instruction.lower()
    removes = KIND_OF.get(task, task) == "removal"
    cut = None if removes else next(iter(re.finditer(_NEW, text)), None)
    old, new = (text, "") if cut is None else (text[: cut.start()], text[cut.end() :])
    if cut is None and not removes and (made := _MADE.search(text)):  # "Make the old car blue."
        old, new = text[: made.start()], made.group()
    found = [_agreement(name, seen.before) for name in _colours(old)]
    if task == "stylization":  # "as a dark blue and black picture, with ..."
        found = [_agreement(name, seen.after) for name in _colours(text)]
    else:
        found += [_agreement(name, seen.after) for name in _colours(new)]
    return min(found, default=None)


def instruction_object(instruction: str, phrase: str) -> float | None:
    """Whether the object's noun stands in the instruction: 1 or 0; None where the object has no name."""
    nouns = re.findall(r"[a-z]+", phrase.lower())
    if not nouns or nouns[-1] in {"object", "thing", "text"}:
        return None
    noun = nouns[-1]
    stem = noun[:-1] if noun.endswith("s") and len(noun) > 3 else noun
    return 1.0 if re.search(rf"\b{re.escape(stem)}", instruction.lower()) else 0.0


def seen_colours(source: Frames, target: Frames, masks: Masks | None, reference: Frames | None = None) -> SeenColours:
    """Name the colours of what was edited.

    Args:
        source: uint8 (T, H, W, 3) RGB.
        target: of the same shape.
        masks: bool (T, H, W), the object; None for the whole picture.
        reference: uint8 (H, W, 3), the style image of a stylization, whose colours an instruction may name too.
    """
    frames = [sample_frames(clip, count=9) for clip in (source, target)]
    where = None if masks is None else sample_frames(masks, count=9)
    names = [_palette(clip if where is None or not where.any() else clip[where]) for clip in frames]
    if reference is not None:
        names[1] = tuple(dict.fromkeys((*names[1], *_palette(sample_frames(reference)))))
    return SeenColours(names[0], names[1])


def agreement(row: Mapping[str, Any], seen: SeenColours) -> dict[str, float]:
    """Return what is known of an instruction's agreement, by column; `row` has `instruction`, `task` and `object`."""
    text, task = str(row.get("instruction") or ""), str(row.get("task") or "")
    values = {
        "instruction_task": instruction_task(text, task),
        "instruction_colours": instruction_colours(text, task, seen),
        "instruction_object": None if task == "stylization" else instruction_object(text, str(row.get("object") or "")),
    }
    return {name: value for name, value in values.items() if value is not None}


def _palette(pixels: Frames) -> tuple[str, ...]:
    return tuple(palette(pixels, most=len(NAMES), least=0.04))


def _colours(text: str) -> list[str]:
    words = [_SYNONYMS.get(word, word) for word in re.findall(r"[a-z]+", text)]
    return [word for word in words if word in NAMES]


def _agreement(name: str, seen: Collection[str]) -> float:
    if name in seen:
        return 1.0
    return 0.5 if any({name, other} in _NEIGHBOURS for other in seen) else 0.0
