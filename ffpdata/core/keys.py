"""Content keys: the same question about the same content has the same key on every machine.

A stage row's key is a hash of the stage's name and version, its settings, the text of its prompts, the identity of its
models and the values of the columns it reads. An artifact column holds the path `artifacts/<kind>/<ab>/<key>.<ext>`
relative to the run folder, so an artifact counts by its own key and never by where the run folder lies.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

KEY_CHARS = 32
"""Hex digits of a key: 128 bits, so that a billion rows collide with a chance below 1e-20."""

SOURCE_CHARS = 16
"""Hex digits of a source id: 64 bits of SHA-256 over the source's bytes."""

_CHUNK = 1 << 20


def canonical(value: Any) -> Any:
    """Return `value` as plain JSON data with one spelling per content.

    Tuples become lists, sets become sorted lists, integral floats stay floats, -0.0 becomes 0.0. Values that have no
    stable text (NaN, bytes, objects) raise TypeError or ValueError.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isnan(value) or math.isinf(value):
            raise ValueError(f"a key cannot contain {value!r}: write None for an unknown number")
        return value + 0.0
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, Mapping):
        return {str(k): canonical(v) for k, v in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(canonical(v) for v in value)
    if isinstance(value, (list, tuple)):
        return [canonical(v) for v in value]
    if hasattr(value, "item"):  # numpy scalars
        return canonical(value.item())
    raise TypeError(f"a key cannot contain {type(value).__name__} {value!r}")


def digest(*parts: Any) -> str:
    """Hash JSON-like parts into a key of `KEY_CHARS` hex digits."""
    text = json.dumps([canonical(p) for p in parts], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_CHARS]


def row_key(fixed: str, reads: Iterable[str], values: Mapping[str, Any]) -> str:
    """Key of one row at one stage.

    Args:
        fixed: digest of what is the same for all rows of the stage (name, version, settings, prompts, models).
        reads: the columns that count.
        values: the row; a column that it lacks counts as None.
    """
    return digest(fixed, {name: values.get(name) for name in sorted(reads)})


def child_key(parent: str, suffix: str) -> str:
    """Key under which the artifacts of one child of a fan-out are stored."""
    return digest("child", parent, suffix)


def source_id(stream: IO[bytes]) -> str:
    """Hash a source's bytes: the takedown and split key, `SOURCE_CHARS` hex digits."""
    sha = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        sha.update(chunk)
    return sha.hexdigest()[:SOURCE_CHARS]


def is_of(item_id: str, ancestor: str) -> bool:
    """Whether an item is `ancestor` itself or was fanned out of it."""
    return f"{item_id}/".startswith(f"{ancestor}/")
