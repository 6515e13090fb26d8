"""Entries of a configuration file held against a model, with the file and the line of each that is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ffpdata.core.errors import ConfigError, nearest

Lines = dict[tuple[str, ...], str]
"""Path of an entry to the `file:line` that set it."""


def validate(model: type[BaseModel], data: Mapping[str, Any], where: tuple[str, ...], lines: Lines, file: str) -> Any:
    """Check `data` against `model`.

    Args:
        model: what is allowed.
        data: what was read.
        where: path of `data` in the whole configuration.
        lines: where entries were set.
        file: what a message names where an entry has no line.

    Raises:
        ConfigError: a line for each of the first five faults: place, entry, what is wrong, value, nearest valid name.
    """
    try:
        return model.model_validate(data)
    except ValidationError as err:
        raise ConfigError("\n".join(_explain(model, e, where, lines, file) for e in err.errors()[:5])) from None


def _explain(model: type[BaseModel], error: Mapping[str, Any], where: tuple[str, ...], lines: Lines, file: str) -> str:
    """One line: place, entry, what is wrong, the value, the nearest valid name."""
    path = tuple(str(p) for p in error["loc"])
    full = (*where, *path)
    if path[:1] == ("clip",) and where and full not in lines:  # handed down from the top of the pipeline
        full = path
    spot = next((lines[full[:n]] for n in range(len(full), 0, -1) if full[:n] in lines), file)
    entry = ".".join(full)
    if error["type"] == "extra_forbidden":
        return f"{spot}: unknown entry {entry!r}{nearest(path[-1], _fields_at(model, path[:-1]))}"
    message = re.sub(r"^Input should be", "must be", error["msg"])
    return f"{spot}: {entry}: {message} (got {error.get('input')!r})"


def _fields_at(model: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    """Names of the fields of the model that lies at `path` inside `model`."""
    kind: Any = model
    for part in path:
        fields = getattr(kind, "model_fields", None)
        if fields is not None:
            kind = fields[part].annotation if part in fields else None
        else:  # an entry of a mapping or a list: the last type argument is that of the values
            kind = next(reversed(get_args(kind)), None)
    kinds = [kind, *get_args(kind)]
    return list(next((k.model_fields for k in kinds if hasattr(k, "model_fields")), {}))
