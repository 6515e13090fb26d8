"""Inverse pairs: a removal read backwards adds its object to the clip that never shows it.

The source of such a pair is the edited clip and its target the real one, so that what is to be learned is real. It is a
pair of its own with a key, an instruction and captions of its own, lies behind its removal in the same shard, and says
what it was made of. Numbers and verdicts of the removal are about the removal and are not carried, but for the score.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ffpdata.metrics.words import instruction_task
from ffpdata.models.classical.vision_language.phrasing import article

TASK, OF = "addition", "removal"
"""Task of an inverse pair, and of the pair that it reverses."""
SUFFIX = "/inverse"
"""Ends the item id of an inverse pair; what stands before it is the item of its removal."""
INSTRUCTION = "addition_instruction"
"""Column of the stage `wordings`: an instruction of the addition, as a model or the templates word it."""
SWAPPED = {"source_video": "target_video", "target_video": "source_video"}
"""Column of an inverse pair to the column of its removal."""
UNSAID = ("caption_by", "depth_kind")
"""Columns that say nothing of an inverse pair."""

_REMOVE = re.compile(
    r"(?:please\s+)?(?:remove|erase|delete|eliminate|take\s+(?:out|away|off)|get\s+rid\s+of|clear\s+away)\s+(?P<what>.+)",
    re.IGNORECASE | re.DOTALL,
)
_FROM = re.compile(
    r"\s+(?:from|out of|in)\s+(?:the|this)\s+(?:\w+\s+)?(?:video|clip|scene|picture|footage|frame)$", re.IGNORECASE
)


def is_inverse(item_id: str) -> bool:
    """Whether an item id is that of an inverse pair."""
    return item_id.endswith(SUFFIX)


def reversed_item(item_id: str) -> str:
    """Return the item of the removal; the id itself of a pair that is no inverse one."""
    return item_id.removesuffix(SUFFIX)


def addition_of(instruction: str, thing: str = "") -> str | None:
    """Turn the instruction of a removal into that of the addition; None where it cannot be told.

    Args:
        instruction: one sentence, e.g. `Remove the red ball on the left from the video.`
        thing: what people call the object (`ball`): its article becomes `a` or `an`.
    """
    found = _REMOVE.fullmatch(instruction.strip().rstrip(".!"))
    if not found:
        return None
    what = _FROM.sub("", found["what"].strip())
    text = f"Add {_indefinite(what, thing)} to the video."
    return text if instruction_task(text, TASK) == 1 else None


def _indefinite(what: str, thing: str) -> str:
    """`the red ball on the left` as `a red ball on the left`; as it is where the noun is not in it."""
    noun = re.findall(r"\w+", thing.lower())[-1:]
    place = (
        re.match(rf"(?:the|that|this|a|an)\s+((?:[\w-]+\s+){{0,5}}?{re.escape(noun[0])})\b", what, re.IGNORECASE)
        if noun
        else None
    )
    return f"{article(place[1])}{what[place.end() :]}" if place else what


def inverse_record(record: Mapping[str, Any], base: str) -> dict[str, Any]:
    """Return the record of an inverse pair from what its row tells as if it were a removal.

    Args:
        record: of the chosen row, whose task, item and instruction are those of the inverse pair already.
        base: sample key of the removal.
    """
    captions = record["captions"]
    turned = {"source": captions.get("target"), "target": captions.get("source")}
    score = record["scores"].get("score")
    own = {
        "captions": {name: text for name, text in turned.items() if text},
        "scores": {} if score is None else {"score": score},
        "verdicts": {},
        "derived_from": {
            "key": base,
            "item_id": reversed_item(str(record["item_id"])),
            "task": OF,
            "relation": "reversed",
        },
    }
    left_out = ("facts", "instructions", "depth")
    return {name: value for name, value in record.items() if name not in left_out} | own
