"""The subset of JSON schema that prompts use: type, enum, bounds, lengths, items, properties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "array": (list, tuple),
    "object": dict,
}
_SIZES = {"string": ("minLength", "maxLength"), "array": ("minItems", "maxItems")}


def schema_violations(value: Any, schema: Mapping[str, Any], where: str = "answer") -> list[str]:
    """List what `value` breaks, each with the value and the limit; an empty list means that it is valid."""
    kind = schema.get("type")
    if kind and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return [f"{where} must be of type {kind}, got {value!r}"]
    found: list[str] = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where} must be one of {schema['enum']}, got {value!r}")
    if kind in ("number", "integer") and not _within(value, schema, "minimum", "maximum"):
        found.append(f"{where} must lie in [{schema.get('minimum')}, {schema.get('maximum')}], got {value!r}")
    if kind in _SIZES and not _within(len(value), schema, *_SIZES[kind]):
        low, high = (schema.get(name) for name in _SIZES[kind])
        found.append(f"{where} must have a length in [{low}, {high}], got {len(value)}")
    if kind == "array" and "items" in schema:
        for i, entry in enumerate(value):
            found += schema_violations(entry, schema["items"], f"{where}[{i}]")
    if kind == "object":
        found += _entry_violations(value, schema, where)
    return found


def _within(number: float, schema: Mapping[str, Any], low: str, high: str) -> bool:
    """Compare with the schema's inclusive bounds; NaN lies within none."""
    lowest, highest = schema.get(low), schema.get(high)
    return (lowest is None or number >= lowest) and (highest is None or number <= highest)


def _entry_violations(value: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> list[str]:
    properties = schema.get("properties", {})
    found = [f"{where} lacks {name!r}" for name in schema.get("required", []) if name not in value]
    if schema.get("additionalProperties") is False:
        found += [f"{where} has the unknown entry {name!r}" for name in value if name not in properties]
    for name, sub in properties.items():
        if name in value:
            found += schema_violations(value[name], sub, name if where == "answer" else f"{where}.{name}")
    return found
