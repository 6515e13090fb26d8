"""What lies over what: profiles over a pipeline, and `--set` over both."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from ffpdata.core.errors import UsageError, nearest

Lines = dict[tuple[str, ...], str]
"""Path of an entry to the `file:line` that set it."""


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
        lines["stages", *parts] = f"--set {text}"
    elif parts and parts[0] in sections:
        assign(data, parts, value, text)
        lines[tuple(parts)] = f"--set {text}"
    else:
        first = parts[0] if parts else ""
        raise UsageError(f"--set {text!r}: no section or stage {first!r}{nearest(first, {*sections, *stages})}")


def assignment(text: str) -> tuple[list[str], Any]:
    """Take `a.b=c` apart, the value read as YAML."""
    path, sign, value = text.partition("=")
    parts = path.strip().split(".")
    if not sign or not all(parts):
        raise UsageError(f"--set {text!r}: write a.b=c, e.g. --set segment.min_area=0.01")
    try:
        return parts, yaml.safe_load(value)
    except yaml.YAMLError as err:
        raise UsageError(f"--set {text!r}: the value is not valid YAML: {err}") from err


def assign(target: dict[str, Any], parts: Sequence[str], value: Any, text: str) -> None:
    """Put a value where `parts` lead to, making the sections on the way."""
    for part in parts[:-1]:
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise UsageError(f"--set {text!r}: {part!r} holds a value, not a section")
    target[parts[-1]] = value
