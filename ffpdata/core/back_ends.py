"""Several back ends behind one role: a list in `models` becomes one entry `<role>/<name>` for each of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ffpdata.core.entries import Lines, spot_of
from ffpdata.core.errors import ConfigError
from ffpdata.core.plugins import locate
from ffpdata.core.stage import ModelSpec


def spread(models: dict[str, Any], role: str, lines: Lines, spot: str, folders: Sequence[Path]) -> None:
    """Replace the list of a role by one entry for each back end; a list of one is the role's only back end.

    Args:
        models: of a profile, changed in place.
        role: that holds the list.
        lines: where each entry stands; those of the new entries are added.
        spot: where the list stands.
        folders: where code of the user's own is sought.

    Raises:
        ConfigError: the list is empty, holds something else than back ends, or two of one name.
    """
    entries = list(models.pop(role))
    for key in [key for key in models if key.startswith(f"{role}/")]:
        del models[key]
    if not entries:
        raise ConfigError(f"{spot}: models.{role} is an empty list: name a back end")
    for place, entry in enumerate(entries):
        where = spot_of(lines, ("models", role, str(place)), spot)
        if not isinstance(entry, (Mapping, ModelSpec)):
            raise ConfigError(f"{where}: models.{role}: each of several is a mapping with `backend`, found {entry!r}")
        name = _name(entry, folders)
        if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise ConfigError(
                f"{where}: models.{role}: {name!r} is to be part of item ids: give it a `name` of A-Z 0-9 _ -"
            )
        key = role if len(entries) == 1 else f"{role}/{name}"
        if key in models:
            raise ConfigError(
                f"{where}: models.{role}: two of its back ends are called {name!r}: give one another `name`, e.g. "
                f"`name: {name}_2`"
            )
        models[key] = entry
        for path in [path for path in lines if path[:3] == ("models", role, str(place))]:
            lines["models", key, *path[3:]] = lines[path]


def several_of(models: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the names of the back ends of every role that has several."""
    found: dict[str, list[str]] = {}
    for key in models:
        role, _, name = key.partition("/")
        if name:
            found.setdefault(role, []).append(name)
    return found


def takes_all(entry: Any) -> bool:
    """Whether an entry of a role names a whole back end, and not a setting of one."""
    return isinstance(entry, ModelSpec) or (isinstance(entry, Mapping) and "backend" in entry)


def _name(entry: Mapping[str, Any] | ModelSpec, folders: Sequence[Path]) -> str:
    """What one of several is called: its `name`, else the back end's own.

    What is wrong with a back end that cannot be imported is told where all roles are looked at: until then it has the
    name of its class.
    """
    given = entry.name if isinstance(entry, ModelSpec) else str(entry.get("name") or "")
    if given:
        return given
    path = entry.backend if isinstance(entry, ModelSpec) else str(entry.get("backend"))
    try:
        spec = entry if isinstance(entry, ModelSpec) else ModelSpec(backend=path)
        if not path.startswith("ffpdata.") and not spec.code:
            spec = spec.model_copy(update={"code": locate(path, folders)})
        return str(spec.identity()["backend"])
    except (ConfigError, ValidationError):
        return path.partition(":")[2] or path
