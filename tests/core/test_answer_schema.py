"""The JSON schema subset: what a model may answer, and what it is told otherwise."""

from __future__ import annotations

from typing import Any

import pytest

from ffpdata.core.answer_schema import schema_violations

NUMBER = {"type": "number", "minimum": 0, "maximum": 10}
NESTED = {
    "type": "object",
    "properties": {"box": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}},
    "required": ["box"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (0, NUMBER),
        (10.0, NUMBER),
        (True, {"type": "boolean"}),
        ("a", {"type": "string", "enum": ["a", "b"]}),
        ("", {"type": "string", "maxLength": 3}),
        ((1, 2), {"type": "array", "items": {"type": "integer"}}),
        ({"box": {"x": 1, "y": 2}}, NESTED),
        (object(), {}),
    ],
)
def test_valid_values_pass(value: Any, schema: dict[str, Any]) -> None:
    assert schema_violations(value, schema) == []


@pytest.mark.parametrize(
    ("value", "schema", "told"),
    [
        (11, NUMBER, "answer must lie in [0, 10], got 11"),
        (float("nan"), NUMBER, "answer must lie in [0, 10], got nan"),
        (True, NUMBER, "answer must be of type number, got True"),
        (1, {"type": "boolean"}, "answer must be of type boolean, got 1"),
        (1.5, {"type": "integer"}, "answer must be of type integer, got 1.5"),
        ("c", {"type": "string", "enum": ["a", "b"]}, "answer must be one of ['a', 'b'], got 'c'"),
        ("abcd", {"type": "string", "maxLength": 3}, "answer must have a length in [None, 3], got 4"),
        ([1, "2"], {"type": "array", "items": {"type": "integer"}}, "answer[1] must be of type integer, got '2'"),
        ({"box": {}}, NESTED, "box lacks 'x'"),
        ({"box": {"x": "1"}}, NESTED, "box.x must be of type integer, got '1'"),
        ({"box": {"x": 1}, "y": 2}, NESTED, "answer has the unknown entry 'y'"),
    ],
)
def test_invalid_values_are_told_why(value: Any, schema: dict[str, Any], told: str) -> None:
    assert schema_violations(value, schema) == [told]
