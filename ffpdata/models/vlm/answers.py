"""Parse a model's text: the JSON object in it, and its faults in words for the model."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ffpdata.core.answer_schema import schema_violations

if TYPE_CHECKING:
    from ffpdata.core.prompt import Prompt

MAX_QUOTED = 2000
"""Largest number of characters of a wrong answer that is quoted to the model."""


class Answer(dict[str, Any]):
    """An answer and its facts.

    Attributes:
        facts: JSON values: the media sent (`frames`: medium to frame numbers, `sizes`: medium to [width, height],
            `fps`: clip to the rate of its frames, `boxes` of a close-up), `requests`, `repairs`, `prompt_tokens`,
            `completion_tokens`, `seconds`, `first_token_seconds`, `endpoint`.
    """

    def __init__(self, values: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.facts = dict(facts)


def read_answer(
    text: str, finish: str, prompt: Prompt, fields: Mapping[str, Any]
) -> tuple[dict[str, Any] | None, list[str]]:
    """Find the answer in `text` and check it.

    Args:
        text: the model's text: JSON alone, in a code fence, in prose, or none.
        finish: the protocol's finish reason: `stop`, `length` or another one.
        prompt: its schema and rules.
        fields: the prompt's input fields, for the rules.

    Returns:
        The answer, None unless it fits the schema; and all faults, empty for a valid answer.
    """
    if not text.strip():
        return None, ["the answer is empty"]
    found = [_clean_text(value) for value in _objects(text) if isinstance(value, dict)]
    # A model that reasons in prose writes drafts first: the last valid object is its answer.
    for value in reversed(found):
        if not schema_violations(value, prompt.schema):
            return value, prompt.violations(value, fields)
    if finish == "length":
        return None, ["the answer was cut off because it is too long: write shorter texts"]
    if not found:
        return None, ["the answer holds no complete JSON object"]
    return None, schema_violations(found[-1], prompt.schema)


def correction(text: str, faults: list[str], schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the chat messages of a repair round: the model's text, its faults, and the request for a new answer."""
    names = ", ".join(f'"{name}"' for name in schema.get("properties", {}))
    request = (
        f"This answer cannot be used: {'; '.join(faults)}.\n"
        f"Look again and answer the same question anew. Write one JSON object with {names} and nothing else."
    )
    quoted = text.strip()[:MAX_QUOTED] or "(nothing)"
    return [{"role": "assistant", "content": quoted}, {"role": "user", "content": request}]


def _objects(text: str) -> Iterator[Any]:
    """Yield every outermost JSON object in `text`."""
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


def _clean_text(value: Any) -> Any:
    """Replace control characters, including line ends, by spaces, and drop lone surrogates: tables store neither."""
    if isinstance(value, str):
        text = value.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")  # whole pairs become one character
        return "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text).strip()
    if isinstance(value, dict):
        return {key: _clean_text(entry) for key, entry in value.items()}
    return [_clean_text(entry) for entry in value] if isinstance(value, list) else value
