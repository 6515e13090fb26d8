"""Words of messages: nouns with their number, and what is wrong with a value."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from ffpdata.core.errors import shown


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 shard`, `15 pairs`. Nouns whose plural is not made by an s are no use here."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_MUST = {
    "int": "a whole number",
    "float": "a number",
    "decimal": "a number",
    "finite_number": "a finite number",
    "bool": "true or false",
    "string": "a text",
    "dict": "a section with entries of its own",
    "mapping": "a section with entries of its own",
    "model": "a section with entries of its own",
    "dataclass": "a section with entries of its own",
    "list": "a list",
    "tuple": "a list",
    "set": "a list",
}
_BOUNDS = {
    "greater_than": ("greater than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}


def fault(error: Mapping[str, Any]) -> str:
    """Say what is wrong with a value: `must be at least 0 (got -1)`.

    Args:
        error: one of `ValidationError.errors()` of pydantic, whose own words are of its types, not of the field's.
    """
    kind, limits = str(error["type"]), error.get("ctx") or {}
    if kind == "missing":
        return "is missing"
    if kind in _BOUNDS:
        words, name = _BOUNDS[kind]
        text = f"must be {words} {limits[name]:g}"
    elif kind in ("literal_error", "enum"):
        text = f"must be {limits['expected']}"
    elif kind in ("value_error", "assertion_error"):
        text = str(limits.get("error", error["msg"]))
    elif kind in ("too_short", "too_long"):
        bound, least = ("at least", "min_length") if kind == "too_short" else ("at most", "max_length")
        text = f"must have {bound} {counted(limits[least], 'element')}"
    else:
        stem = next((name for name in _MUST if kind == name or kind.startswith(f"{name}_")), "")
        text = f"must be {_MUST[stem]}" if stem else str(error["msg"]).replace("Input should be", "must be")
    value = error.get("input")
    return f"{text} (got {value if isinstance(value, date) else shown(value)})"
