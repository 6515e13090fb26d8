"""Settings and runtime of a back end, validated by pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ffpdata.core.errors import ConfigError, nearest
from ffpdata.core.wording import fault

if TYPE_CHECKING:
    from ffpdata.core.stage import ModelSpec


class BackendSettings(BaseModel):
    """Base class of a back end's settings: every field has a default, unknown fields raise."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DeviceRuntime(BackendSettings):
    """Device of a model that runs in the worker's process."""

    device: str = ""
    """`cuda`, `cuda:1`, `cpu`; if unset, the first GPU visible to the process."""


M = TypeVar("M", bound=BaseModel)


def check(spec: ModelSpec) -> None:
    """Validate a role's entry before anything is loaded.

    Raises:
        ConfigError: as `parse`; a back end without a class for the section takes none.
    """
    backend = spec.load_class()
    for section, values in (("Settings", spec.settings), ("Runtime", spec.runtime)):
        place = f"{section.lower()} of {spec.backend}"
        if model := getattr(backend, section, None):
            parse(model, values, place)
        elif values:
            raise ConfigError(
                f"{place}: no entry {next(iter(values))!r}: this back end takes none. One that does names them in a "
                f"pydantic model, as its class attribute `{section}`"
            )


def parse_settings(model: type[M], spec: ModelSpec) -> M:
    """Validate `spec.settings` as `parse` does."""
    return parse(model, spec.settings, f"settings of {spec.backend}")


def parse_runtime(model: type[M], spec: ModelSpec) -> M:
    """Validate `spec.runtime` as `parse` does."""
    return parse(model, spec.runtime, f"runtime of {spec.backend}")


def parse(model: type[M], values: Mapping[str, Any], section: str) -> M:
    """Validate one section of a model's profile entry.

    Raises:
        ConfigError: with the section, the entry, its value and the nearest valid name.
    """
    if model.model_config.get("extra", "ignore") == "ignore":  # pydantic's own default would lose a misspelt entry
        for entry in set(values) - set(model.model_fields):
            raise ConfigError(f"{section}: no entry {entry!r}{nearest(entry, model.model_fields)}")
    try:
        return model.model_validate(values)
    except ValidationError as err:
        first = min(err.errors(), key=lambda one: one["type"] != "extra_forbidden")  # a misspelt entry is missing, too
        entry = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{section}: no entry {entry!r}{nearest(entry, model.model_fields)}") from None
        if first["type"] == "missing":
            field = model.model_fields.get(entry)
            examples = "".join(f", e.g. {entry}: {example}" for example in (field and field.examples) or [])
            raise ConfigError(f"{section}: {entry!r} is missing{examples}") from None
        raise ConfigError(f"{section}: {entry!r}: {fault(first)}") from None
