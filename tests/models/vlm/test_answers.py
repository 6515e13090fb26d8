"""What comes back from a model: JSON in every wrapping, and faults in words that it can act on."""

from __future__ import annotations

import pytest

from ffpdata.core.prompt import Prompt, TextRule
from ffpdata.models.vlm.answers import MAX_QUOTED, correction, read_answer

ASKED = Prompt(
    name="ask",
    text="?",
    schema={
        "type": "object",
        "properties": {"task": {"type": "string", "enum": ["swap", "modification"]}, "score": {"type": "number"}},
        "required": ["score", "task"],
        "additionalProperties": False,
    },
    rules={"task": TextRule(lowercase=True)},
)
GOOD = '{"task": "swap", "score": 7}'


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Sure! Here is what I found:\n```\n{GOOD}\n```\nLet me know {{if}} more is needed.",
        f"{GOOD}<|im_end|>",
        f'<think>maybe {{\'task\': 1}} or {{"task": "removal"}}</think>\n{GOOD}',
        f'A draft: {{"task": "modification", "score": 1}}. Looking again: {GOOD}',
        f'[{GOOD}] {{"note": "done"}}',
        f"{{{{ broken {GOOD}",
        '\ufeff{"score":7,\n\n\t"task":"swap"}',
    ],
)
def test_the_object_is_found_in_any_wrapping(text: str) -> None:
    assert read_answer(text, "stop", ASKED, {}) == ({"task": "swap", "score": 7}, [])


@pytest.mark.parametrize(
    ("text", "finish", "fault"),
    [
        ("", "stop", "empty"),
        ("  \n", "stop", "empty"),
        ("I cannot see any object.", "stop", "no complete JSON object"),
        ('{"task": "swap", "sco', "stop", "no complete JSON object"),
        ('{"task": "swap", "sco', "length", "too long"),
        ('"swap"', "stop", "no complete JSON object"),
        ("[1, 2]", "stop", "no complete JSON object"),
        ('{"task": "swap"}', "stop", "lacks 'score'"),
        ('{"task": "swap", "score": "7"}', "stop", "score must be of type number, got '7'"),
        ('{"task": "removal", "score": 7}', "stop", "task must be one of"),
        ('{"task": "swap", "score": 7, "sure": true}', "stop", "unknown entry 'sure'"),
        ("{" * 5000, "stop", "no complete JSON object"),
        ('{"a":' * 5000, "stop", "no complete JSON object"),
    ],
)
def test_a_fault_is_named(text: str, finish: str, fault: str) -> None:
    answer, faults = read_answer(text, finish, ASKED, {})
    assert answer is None
    assert fault in "; ".join(faults)


def test_a_broken_rule_leaves_the_answer() -> None:
    loose = Prompt(
        name="ask",
        text="?",
        schema={"type": "object", "properties": {"task": {"type": "string"}}, "required": ["task"]},
        rules={"task": TextRule(lowercase=True)},
    )
    assert read_answer('{"task": "Swap"}', "stop", loose, {}) == (
        {"task": "Swap"},
        ["task must be lowercase, got 'Swap'"],
    )


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("a\x16b", "a b"),
        (" two\\nlines\\t", "two lines"),
        ("half \\ud83d a face", "half  a face"),
        ("\\ud83d\\ude00 whole", "\U0001f600 whole"),
        ("caf\u00e9", "caf\u00e9"),
    ],
)
def test_texts_come_out_fit_for_a_table(written: str, read: str) -> None:
    loose = Prompt(name="ask", text="?", schema={"type": "object", "properties": {"tags": {"type": "array"}}})
    answer, faults = read_answer(f'{{"tags": ["{written}"]}}', "stop", loose, {})
    assert (answer, faults) == ({"tags": [read]}, [])
    read.encode()


def test_a_correction_quotes_the_answer_and_names_the_faults() -> None:
    said, asked = correction("x" * 9000, ["task is missing", "score is 11"], ASKED.schema)
    assert said == {"role": "assistant", "content": "x" * MAX_QUOTED}
    assert asked["role"] == "user"
    assert "task is missing; score is 11" in asked["content"]
    assert '"task", "score"' in asked["content"]
