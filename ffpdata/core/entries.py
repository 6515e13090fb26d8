"""Entries of a configuration: read from YAML with their lines, laid over each other, changed by `--set`, checked."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from ffpdata.core import yaml_text
from ffpdata.core.errors import ConfigError, UsageError, nearest, shown
from ffpdata.core.wording import fault

Lines = dict[tuple[str, ...], str]
"""Path of an entry to the `file:line` that set it."""


def read(path: Path) -> tuple[dict[str, Any], Lines]:
    """Parse YAML into plain data and the line of every entry."""
    try:
        data, node = yaml_text.load_with_marks(yaml_text.read_text(path))
    except yaml_text.WrongYamlError as err:
        raise ConfigError(f"{path}: not valid YAML: {err}") from err
    except OSError as err:
        raise ConfigError(f"{path}: cannot be read ({err.strerror})") from err
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
        for place, value in enumerate(node.value):
            if isinstance(value, yaml.MappingNode):  # `- segment: {...}` is found under the stage's name, too
                yield (*where, str(place)), value.start_mark.line + 1
                yield from _walk(value, (*where, str(place)))
                yield from _walk(value, where)
            else:
                yield (*where, str(value.value)), value.start_mark.line + 1


def merge(base: dict[str, Any], overlay: Mapping[str, Any], where: tuple[str, ...] = ()) -> None:
    """Lay `overlay` over `base`: mappings merge, everything else is replaced.

    A role of `models` is replaced whole: one model's settings mean nothing to another one.
    """
    for name, value in overlay.items():
        here = (*where, str(name))
        is_role = len(here) == 2 and here[0] == "models"
        if isinstance(value, Mapping) and isinstance(base.get(name), dict) and not is_role:
            merge(base[name], value, here)
        else:
            base[name] = dict(value) if isinstance(value, Mapping) else value


def override(
    data: dict[str, Any], stages: Mapping[str, Any], sections: Collection[str], text: str, lines: Lines
) -> None:
    """Apply one `--set a.b=c`; `a` is one of the `sections` of the pipeline, `stages`, or a stage's name."""
    parts, value = assignment(text)
    if parts[0] == "stages":
        parts = parts[1:]
    if parts and parts[0] in stages and len(parts) > 1:
        assign(stages[parts[0]]["settings"], parts[1:], value, text)
        set_line(lines, ("stages", *parts), f"--set {text}")
    elif parts and parts[0] in sections:
        assign(data, parts, value, text)
        set_line(lines, tuple(parts), f"--set {text}")
    else:
        first = parts[0] if parts else ""
        if not first or first in stages:
            raise UsageError(f"--set {text!r}: name a setting of the stage, e.g. --set ingest.min_side=480")
        raise UsageError(f"--set {text!r}: no section or stage {first!r}{nearest(first, {*sections, *stages})}")


def assignment(text: str) -> tuple[list[str], Any]:
    """Take `a.b=c` apart, the value read as YAML."""
    path, sign, value = text.partition("=")
    parts = path.strip().split(".")
    if not sign or not all(parts):
        raise UsageError(f"--set {text!r}: write a.b=c, e.g. --set segment.min_area=0.01")
    try:
        return parts, yaml_text.load(value)
    except yaml_text.WrongYamlError as err:
        syntax = "close every bracket, brace and quote, and quote what a text must not lose"
        why = syntax if isinstance(err.__cause__, yaml.YAMLError) else str(err)
        raise UsageError(f"--set {shown(text)}: the value {shown(value)} is not valid YAML: {why}") from err


def assign(target: dict[str, Any], parts: Sequence[str], value: Any, text: str) -> None:
    """Put a value where `parts` lead to, making the sections on the way."""
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise UsageError(f"--set {text!r}: {part!r} holds a value, not a section")
    target[parts[-1]] = value


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
    spot = spot_of(lines, full, file)
    entry = ".".join(full)
    if error["type"] == "extra_forbidden":
        return f"{spot}: unknown entry {entry!r}{nearest(path[-1], _fields_at(model, path[:-1]))}"
    return f"{spot}: {entry}: {fault(error)}"


def set_line(lines: Lines, entry: tuple[str, ...], spot: str) -> None:
    """Note where an entry was set; what the file says below it holds no more."""
    for below in [where for where in lines if where[: len(entry)] == entry]:
        del lines[below]
    lines[entry] = spot


def spot_of(lines: Lines, entry: Sequence[str], file: str) -> str:
    """Where an entry was set: its place, that of one inside it (`--set a.b.c=1` for `a.b`), or of one around it."""
    full = tuple(entry)
    if full in lines:
        return lines[full]
    inside = [spot for where, spot in lines.items() if where[: len(full)] == full]
    if inside:
        return inside[-1]
    return next((lines[full[:n]] for n in range(len(full) - 1, 0, -1) if full[:n] in lines), file)


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
