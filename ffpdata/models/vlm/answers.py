"""From what a model wrote to an answer: the JSON object in it, and what is wrong with it in words for the model."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ffpdata.core.answer_schema import schema_violations

if TYPE_CHECKING:
    from ffpdata.core.prompt import Prompt

QUOTED = 2000
"""Characters of a wrong answer that the model is shown again."""


class Answer(dict[str, Any]):
    """An answer, and how it came about.

    Attributes:
        facts: JSON values: what was shown (`frames`: medium to frame numbers, `sizes`: medium to [width, height]),
            `requests`, `repairs`, `prompt_tokens`, `completion_tokens`, `seconds`, `first_token_seconds`, `endpoint`.
    """

    def __init__(self, values: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.facts = dict(facts)


def read_answer(
    text: str, finish: str, prompt: Prompt, fields: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, list[str]]:
    """Find the answer in `text` and check it.

    Args:
        text: what the model wrote: JSON alone, in a code fence, in prose, or none.
        finish: why it stopped: `stop`, `length` or another word of the protocol.
        prompt: its schema and rules.
        fields: the prompt's input fields, for the rules.

    Returns:
        The answer, None unless it fits the schema; and every fault, empty where there is none.
    """
    if not text.strip():
        return None, ["the answer is empty"]
    found = [_legible(value) for value in _objects(text) if isinstance(value, dict)]
    # A model that reasons in prose writes drafts first: the last that fits is meant.
    for value in reversed(found):
        if not schema_violations(value, prompt.schema):
            return value, prompt.violations(value, fields)
    if finish == "length":
        return None, ["the answer was cut off because it is too long: write shorter texts"]
    if not found:
        return None, ["the answer holds no complete JSON object"]
    return None, schema_violations(found[-1], prompt.schema)


def correction(text: str, faults: list[str], schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the turns of a repair round: what the model wrote, what is wrong with it and what is wanted."""
    names = ", ".join(f'"{name}"' for name in schema.get("properties", {}))
    asked = (
        f"This answer cannot be used: {'; '.join(faults)}.\n"
        f"Look again and answer the same question anew. Write one JSON object with {names} and nothing else."
    )
    quoted = text.strip()[:QUOTED] or "(nothing)"
    return [{"role": "assistant", "content": quoted}, {"role": "user", "content": asked}]


def _objects(text: str) -> Iterator[Any]:
    """Yield every outermost JSON object in `text`, whatever stands around it."""
    decoder = json.JSONDecoder(strict=False)  # grammars of servers let raw control characters into strings
    start = text.find("{")
    while start >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            end = start + 1
        else:
            yield value
        start = text.find("{", end)


def _legible(value: Any) -> Any:
    """Put a space for every control character, line ends too, and drop halves of characters: no table holds them."""
    if isinstance(value, str):
        text = value.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")  # whole pairs become one character
        return "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text).strip()
    if isinstance(value, dict):
        return {key: _legible(entry) for key, entry in value.items()}
    return [_legible(entry) for entry in value] if isinstance(value, list) else value
