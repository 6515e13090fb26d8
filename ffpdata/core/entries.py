"""A YAML file with the line of each of its entries, and what is wrong with an entry in words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ffpdata.core.errors import ConfigError, nearest
from ffpdata.core.overlay import Lines


def read(path: Path) -> tuple[dict[str, Any], Lines]:
    """Parse YAML into plain data and the line of every entry."""
    text = path.read_text(encoding="utf-8")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ConfigError(f"{path}: not valid YAML: {err}") from err
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a mapping at the top, found {type(data).__name__}")
    return _own(data), {where: f"{path}:{line}" for where, line in _walk(node, ())}


def _own(data: Any) -> Any:
    """Copy what an alias (`*vace`) names twice, so that a change of one entry leaves the other as it is."""
    if isinstance(data, dict):
        return {name: _own(value) for name, value in data.items()}
    return [_own(value) for value in data] if isinstance(data, list) else data


def _walk(node: Any, where: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*where, str(key.value))
            yield here, key.start_mark.line + 1
            yield from _walk(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            if isinstance(value, yaml.MappingNode):  # `- segment: {...}` is found under the stage's name
                yield from _walk(value, where)
            else:
                yield (*where, str(value.value)), value.start_mark.line + 1


def validate(model: type[BaseModel], data: Mapping[str, Any], where: tuple[str, ...], lines: Lines, file: str) -> Any:
    """Check `data`, which stands at `where` in `file`, against `model`: its first five errors, one a line."""
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
